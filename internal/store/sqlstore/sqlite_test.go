package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
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
		"sqlite3://":                   "the url has no path",
		"sqlite3://" + file:            "not a database",
		"sqlite3://" + file + "/x/y":   "not a directory",
	} {
		s, err := Open(t.Context(), url, Options{})
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
		"open the database once with Fn": {fnTables, "INSERT INTO schema_migrations VALUES (22, 0)"},
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

func TestRowsThatCannotBeDecodedAreLoggedAndLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fn.db")
	var log bytes.Buffer
	s, err := Open(t.Context(), "sqlite3://"+path, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	good, bad := insertApp(t, s, "good"), insertApp(t, s, "bad")
	execute(t, path, "UPDATE apps SET config = '{broken' WHERE name = 'bad'")
	page, err := s.ListApps(t.Context(), model.AppFilter{})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != good.ID {
		t.Errorf("%+v, %v", page, err)
	}
	if !strings.Contains(log.String(), bad.ID) {
		t.Errorf("the log does not name it: %s", log.String())
	}
	if _, err := s.AppByID(t.Context(), bad.ID); err == nil || model.Describe(err).Kind != model.ErrInternal {
		t.Errorf("read alone: %v", err)
	}
	// It counts for paging, so that nothing behind it is lost.
	insertApp(t, s, "hello")
	var names []string
	for cursor := ""; ; {
		page, err := s.ListApps(t.Context(), model.AppFilter{Page: model.PageRequest{Cursor: cursor, PerPage: 1}})
		if err != nil {
			t.Fatal(err)
		}
		for _, app := range page.Items {
			names = append(names, app.Name)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "good hello" {
		t.Errorf("pages: %s", got)
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

func TestCancelledWriteChangesNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "fn.db"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.InsertApp(ctx, &model.App{Name: "never"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	insertApp(t, s, "never")
}

func BenchmarkInsertFn(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "fn.db"))
	app := insertApp(b, s, "app")
	b.SetParallelism(8) // 16 clients on 2 processors
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.InsertFn(context.Background(), &model.Fn{Name: model.NewID(), AppID: app.ID, Image: "image"}); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkFnByID(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "fn.db"))
	fn, err := s.InsertFn(context.Background(), &model.Fn{Name: "fn", AppID: insertApp(b, s, "app").ID, Image: "image"})
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.FnByID(context.Background(), fn.ID); err != nil {
				b.Error(err)
			}
		}
	})
}
