package sqlstore

import (
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"

	moderncsqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteDriver is the name under which the driver registers itself.
const sqliteDriver = "sqlite"

// readConnections is how many reads run at a time; more wait.
const readConnections = 8

// busyMillis is how long a writer waits for one in another process.
const busyMillis = "30000"

var sqlite = dialect{goose: "sqlite3", open: openSQLite, isDuplicate: isSQLiteDuplicate}

func openSQLite(path string) (read, write *sql.DB, err error) {
	if path == "" {
		return nil, nil, errors.New("the url has no path, use sqlite3:///var/lib/tine/fn.db or the like")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, nil, err
	}
	// With a write-ahead log readers never wait for writers, and with full
	// synchronization a commit is on disk when it returns.
	pragmas := url.Values{"_pragma": {
		"busy_timeout(" + busyMillis + ")", "journal_mode(WAL)", "synchronous(FULL)",
	}}
	writing := url.Values{"_txlock": {"immediate"}, "_pragma": pragmas["_pragma"]}
	reading := url.Values{"_pragma": append([]string{"query_only(1)"}, pragmas["_pragma"]...)}
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
