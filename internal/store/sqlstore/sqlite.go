package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	moderncsqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteDriver is the name under which the driver registers itself.
const sqliteDriver = "sqlite"

// readConnections is how many reads run at a time; more wait.
const readConnections = 8

// busyTimeout is how long a writer waits for one in another process.
const busyTimeout = 30 * time.Second

var sqlite = dialect{
	goose:       goose.DialectSQLite3,
	findTable:   "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?",
	joinIDs:     "group_concat(id, ', ' ORDER BY id)",
	open:        openSQLite,
	isDuplicate: isSQLiteDuplicate,
	isBusy:      isSQLiteBusy,
	isHopeless:  isSQLiteHopeless,
}

func openSQLite(path string) (read, write *sql.DB, err error) {
	if path == "" {
		return nil, nil, errors.New("the url has no path, use sqlite3:///var/lib/tine/fn.db or the like")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, nil, err
	}
	// With a write-ahead log readers never wait for writers, and with full
	// synchronization a commit is on disk when it returns. The file remembers
	// the log, which the writing connection has asked for before anyone reads.
	wait := fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())
	writing := url.Values{"_txlock": {"immediate"}, "_pragma": {wait, "journal_mode(WAL)", "synchronous(FULL)"}}
	reading := url.Values{"_pragma": {wait, "query_only(1)"}}
	name := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String()
	if write, err = sql.Open(sqliteDriver, name+"?"+writing.Encode()); err != nil {
		return nil, nil, err
	}
	write.SetMaxOpenConns(1)
	if read, err = sql.Open(sqliteDriver, name+"?"+reading.Encode()); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(readConnections)
	read.SetMaxIdleConns(readConnections)
	return read, write, nil
}

func isSQLiteDuplicate(err error) bool {
	failure, ok := errors.AsType[*moderncsqlite.Error](err)
	return ok && (failure.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || failure.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// The first byte of a code is its class.

func isSQLiteBusy(err error) bool {
	failure, ok := errors.AsType[*moderncsqlite.Error](err)
	return ok && failure.Code()&0xff == sqlite3.SQLITE_BUSY
}

func isSQLiteHopeless(err error) bool {
	failure, ok := errors.AsType[*moderncsqlite.Error](err)
	if !ok {
		return false
	}
	switch failure.Code() & 0xff {
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return true
	}
	return false
}
