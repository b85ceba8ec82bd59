// Package sqlstore keeps definitions in an SQL database: SQLite, embedded.
//
// Reads go to a pool of connections, writes to a single one, each in a
// transaction that holds the write lock from its start, so that writers wait
// for each other instead of failing. Read store.go first, then apps.go, fns.go
// and triggers.go; what is particular to the database is in sqlite.go, and
// migrate.go brings its tables up to date.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/tinefn/tine/internal/store"
)

// Options configures a [Store].
type Options struct {
	Logger      *slog.Logger // nil: no logs
	PingRetries int          // attempts to reach the database at start, a second apart; 0: one
}

// Store is a [store.Store] in an SQL database. It is safe for concurrent use,
// also by several processes on one database.
type Store struct {
	dialect dialect
	log     *slog.Logger
	read    *sql.DB
	write   *sql.DB // one connection
}

var _ store.Store = (*Store)(nil)

// dialect is what differs between databases.
type dialect struct {
	goose     goose.Dialect
	findTable string // query that finds a row if there is a table of a name
	joinIDs   string // aggregate of the column id as text

	// open returns a database for reading and one for writing.
	open func(path string) (read, write *sql.DB, err error)
	// isDuplicate recognises the violation of a unique constraint.
	isDuplicate func(error) bool
	// isBusy recognises that another process holds a lock for a moment.
	isBusy func(error) bool
	// isHopeless recognises what another attempt to reach the database cannot cure.
	isHopeless func(error) bool
}

// dialects are the databases by the scheme of their URLs.
var dialects = map[string]dialect{"sqlite3": sqlite, "sqlite": sqlite}

// Open opens the database that a URL such as sqlite3:///var/lib/tine/fn.db
// names, makes it if need be, and brings its tables up to date.
func Open(ctx context.Context, rawURL string, opts Options) (*Store, error) {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	scheme, path, _ := strings.Cut(rawURL, "://")
	d, ok := dialects[scheme]
	if !ok {
		return nil, fmt.Errorf("no data store provider found for storage url %s; use sqlite3://<path>", masked(rawURL))
	}
	read, write, err := d.open(path)
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", masked(rawURL), err)
	}
	s := &Store{dialect: d, log: log, read: read, write: write}
	log.Info("Connecting to DB", slog.String("url", masked(rawURL)))
	if err := s.reach(ctx, opts.PingRetries); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", masked(rawURL), err), s.Close())
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("bring the database %s up to date: %w", masked(rawURL), err), s.Close())
	}
	return s, nil
}

// masked hides the password of a URL.
func masked(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil {
		return u.Redacted()
	}
	// Forms like mysql://user:secret@tcp(host:3306)/db are no URLs to net/url.
	scheme, rest, _ := strings.Cut(rawURL, "://")
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return rawURL
	}
	user, _, hasPassword := strings.Cut(rest[:at], ":")
	if hasPassword {
		user += ":xxxxx"
	}
	return scheme + "://" + user + rest[at:]
}

const (
	// retryPause is the time between attempts to reach the database.
	retryPause = time.Second
	// busyPause is the time between attempts while another process is just
	// making the database, for which it takes moments.
	busyPause = 10 * time.Millisecond
	// maxBusyAttempts bounds the latter to about busyTimeout.
	maxBusyAttempts = int(busyTimeout / busyPause)
)

// reach waits until the database answers.
func (s *Store) reach(ctx context.Context, retries int) error {
	attempt, busy := 1, 0
	for {
		err := s.write.PingContext(ctx)
		if err == nil || s.dialect.isHopeless(err) {
			return err
		}
		pause := retryPause
		switch {
		case s.dialect.isBusy(err) && busy < maxBusyAttempts:
			busy++
			pause = busyPause
		case attempt >= retries:
			return err
		default:
			s.log.Warn("the database does not answer", slog.Int("attempt", attempt), slog.Any("error", err))
			attempt++
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.read.PingContext(ctx) }

// Close releases the database after operations in progress.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// inTx runs f in a write transaction, which ends with f: committed if it
// returns nil, rolled back if it returns an error or panics.
func (s *Store) inTx(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after the commit; otherwise the first error counts
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// exists reports whether a query finds a row.
func exists(ctx context.Context, q querier, query string, args ...any) (bool, error) {
	var one int
	err := q.QueryRowContext(ctx, query, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
