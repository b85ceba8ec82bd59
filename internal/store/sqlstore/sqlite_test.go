package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/internal/store/storetest"
	"github.com/tinefn/tine/model"
)

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), "sqlite3://"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSQLiteIsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "fn.db")) })
}

func insertApp(t testing.TB, s *Store, name string) *model.App {
	t.Helper()
	app, err := s.InsertApp(context.Background(), &model.App{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func TestReopenedDatabaseKeepsItsData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "er", "fn.db")
	first, err := Open(t.Context(), "sqlite://"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	app := insertApp(t, first, "kept")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	directory, err := os.Stat(filepath.Dir(path))
	if err != nil || directory.Mode().Perm()&^0o750 != 0 {
		t.Errorf("directory: %v, %v", directory.Mode(), err)
	}
	got, err := open(t, path).AppByID(t.Context(), app.ID)
	if err != nil || got.Name != "kept" || got.CreatedAt.String() != app.CreatedAt.String() {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPathsWithOddCharacters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%20e&f", "fn.db")
	insertApp(t, open(t, path), "app")
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	insertApp(t, open(t, "data/fn.db"), "app")
	if _, err := os.Stat("data/fn.db"); err != nil {
		t.Error(err)
	}
}

func TestTwoProcessesMayWriteAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fn.db")
	stores := []*Store{open(t, path), open(t, path)}
	var wg sync.WaitGroup
	for writer := range 16 {
		wg.Go(func() {
			for i := range 10 {
				name := fmt.Sprintf("w%d-%d", writer, i)
				if _, err := stores[writer%2].InsertApp(t.Context(), &model.App{Name: name}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	page, err := stores[0].ListApps(t.Context(), model.AppFilter{})
	if err != nil || len(page.Items) != 160 {
		t.Errorf("%d apps, %v", len(page.Items), err)
	}
}

func TestConcurrentOpeningsOfAFreshDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fn.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := Open(t.Context(), "sqlite3://"+path, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestUnusableURLs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("not a database, but longer than a page header would be: "+strings.Repeat("x", 200)), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"oracle://user:secret@host/db": "no data store provider found for storage url oracle://user:xxxxx@host/db",
		"nonsense":                     "no data store provider found for storage url nonsense",
		"postgres://u:secret@host:1/d": "no data store provider found for storage url postgres://u:xxxxx@host:1/d",
		"mysql://u:secret@tcp(h:1)/db": "no data store provider found for storage url mysql://u:xxxxx@tcp(h:1)/db",
		"mysql://u:s:ecret@t@tcp(h)/d": "no data store provider found for storage url mysql://u:xxxxx@tcp(h)/d",
		"bad://%zz/plain":              "no data store provider found for storage url bad://%zz/plain",
		"sqlite3://":                   "the url has no path",
		"sqlite3://" + file:            "not a database",
		"sqlite3://" + file + "/x/y":   "not a directory",
		"sqlite3:///proc/tine/fn.db":   "mkdir /proc/tine: no such file or directory", // not even root may
		"sqlite3://" + t.TempDir():     "unable to open database file",
	} {
		s, err := Open(t.Context(), url, Options{PingRetries: 100}) // none of these is worth a retry
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// fnTables are tables as a migrated database of Fn has them, with its habits:
// NULLs, and newlines at the ends of texts.
const fnTables = `
CREATE TABLE apps (id varchar(256) NOT NULL PRIMARY KEY, name varchar(256) NOT NULL UNIQUE, config text NOT NULL,
	annotations text NOT NULL, syslog_url text, created_at varchar(256), updated_at varchar(256), shape text);
CREATE TABLE fns (id varchar(256) NOT NULL PRIMARY KEY, name varchar(256) NOT NULL, app_id varchar(256) NOT NULL,
	image varchar(256) NOT NULL, memory int NOT NULL, timeout int NOT NULL, idle_timeout int NOT NULL, config text NOT NULL,
	annotations text NOT NULL, created_at varchar(256) NOT NULL, updated_at varchar(256) NOT NULL, shape text,
	CONSTRAINT name_app_id_unique UNIQUE (app_id, name));
CREATE TABLE triggers (id varchar(256) NOT NULL PRIMARY KEY, name varchar(256) NOT NULL, app_id varchar(256) NOT NULL,
	fn_id varchar(256) NOT NULL, created_at varchar(256) NOT NULL, updated_at varchar(256) NOT NULL, type varchar(256) NOT NULL,
	source varchar(256) NOT NULL, annotations text, CONSTRAINT name_app_id_fn_id_unique UNIQUE (app_id, fn_id, name));
CREATE TABLE schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL);
INSERT INTO apps VALUES ('a1', 'app', '{"K":"v"}' || char(10), '', NULL, '2019-10-13T14:54:45.459Z', '2019-10-13T14:54:45.459Z', NULL);
INSERT INTO fns VALUES ('f1', 'fn', 'a1', 'image', 128, 30, 30, '', '{"n":1}', '2019-10-13T14:54:45.459Z', '2019-10-13T14:54:45.459Z', NULL);
INSERT INTO triggers VALUES ('t1', 'trigger', 'a1', 'f1', '2019-10-13T14:54:45.459Z', '2019-10-13T14:54:45.459Z', 'http', '/t', NULL);
`

// rawDatabase makes a database by statements.
func rawDatabase(t *testing.T, statements ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fn.db")
	execute(t, path, statements...)
	return path
}

func execute(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open(sqliteDriver, path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDatabaseOfFnOpensAsItIs(t *testing.T) {
	path := rawDatabase(t, fnTables, "INSERT INTO schema_migrations VALUES (26, 0)")
	for range 2 {
		s := open(t, path)
		app, err := s.AppByID(t.Context(), "a1")
		if err != nil || app.Config["K"] != "v" || app.SyslogURL != nil || app.Shape != "" {
			t.Errorf("%+v, %v", app, err)
		}
		fn, err := s.FnByID(t.Context(), "f1")
		if err != nil || fn.Config == nil || string(fn.Annotations["n"]) != "1" || fn.CreatedAt.String() != "2019-10-13T14:54:45.459Z" {
			t.Errorf("%+v, %v", fn, err)
		}
		trigger, err := s.TriggerBySource(t.Context(), "a1", "http", "/t")
		if err != nil || trigger.ID != "t1" {
			t.Errorf("%+v, %v", trigger, err)
		}
		if _, err := s.UpdateFn(t.Context(), &model.Fn{ID: "f1", Image: "other"}); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDatabasesThatFnMustRepairFirst(t *testing.T) {
	for want, statements := range map[string][]string{
		"database is dirty. version: 25": {fnTables, "INSERT INTO schema_migrations VALUES (25, 1)"},
		"version 22 of Fn's schema and must have 26; open the database once with Fn 0.3.753 first": {
			fnTables, "INSERT INTO schema_migrations VALUES (22, 0)",
		},
		"version 27 of Fn's schema, which is newer": {fnTables, "INSERT INTO schema_migrations VALUES (27, 0)"},
		`app a1 has several triggers of type http for source "/t": t1, t2`: {
			fnTables, "INSERT INTO schema_migrations VALUES (26, 0)",
			"INSERT INTO triggers VALUES ('t2', 'other', 'a1', 'f1', '', '', 'http', '/t', '')",
		},
	} {
		s, err := Open(t.Context(), "sqlite3://"+rawDatabase(t, statements...), Options{})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestWritesAreDurableAndReadersCannotWrite(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "fn.db"))
	var journal string
	var synchronous int
	if err := s.write.QueryRow("PRAGMA journal_mode").Scan(&journal); err != nil || journal != "wal" {
		t.Errorf("journal %s, %v", journal, err)
	}
	if err := s.write.QueryRow("PRAGMA synchronous").Scan(&synchronous); err != nil || synchronous != 2 {
		t.Errorf("synchronous %d, %v; 2 is FULL", synchronous, err)
	}
	if _, err := s.read.Exec("DELETE FROM apps"); err == nil {
		t.Error("a reading connection can write")
	}
}

func TestClosedStoreFails(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "fn.db"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a closed database answers")
	}
	if _, err := s.InsertApp(t.Context(), &model.App{Name: "app"}); model.Describe(err).Kind != model.ErrInternal || err == nil {
		t.Errorf("got %v", err)
	}
}

func TestPanicInATransactionLeavesTheStoreUsable(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "fn.db"))
	func() {
		defer func() { _ = recover() }()
		_ = s.inTx(t.Context(), func(*sql.Tx) error { panic("for the test") })
	}()
	insertApp(t, s, "afterwards")
}
