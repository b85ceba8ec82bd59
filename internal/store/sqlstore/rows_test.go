package sqlstore

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinefn/tine/model"
)

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

func TestEachKindOfBrokenRowIsLeftOut(t *testing.T) {
	for _, test := range []struct{ table, damage string }{
		{"apps", "annotations = '[1]'"},
		{"apps", "config = '{\"K\":1}'"},
		{"apps", "created_at = 'yesterday'"},
		{"fns", "memory = 'much'"},
		{"fns", "memory = -1"},
		{"fns", "timeout = 3000000000"},
		{"fns", "config = 'x'"},
		{"fns", "annotations = '{}{}'"},
		{"triggers", "annotations = '{'"},
		{"triggers", "updated_at = '1'"},
	} {
		t.Run(test.table+" "+test.damage, func(t *testing.T) {
			path := rawDatabase(t, fnTables, "INSERT INTO schema_migrations VALUES (26, 0)",
				"UPDATE "+test.table+" SET "+test.damage)
			var log bytes.Buffer
			s, err := Open(t.Context(), "sqlite3://"+path, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			apps, err1 := s.ListApps(t.Context(), model.AppFilter{})
			fns, err2 := s.ListFns(t.Context(), model.FnFilter{AppID: "a1"})
			triggers, err3 := s.ListTriggers(t.Context(), model.TriggerFilter{AppID: "a1"})
			if err1 != nil || err2 != nil || err3 != nil {
				t.Fatal(err1, err2, err3)
			}
			left := map[string]int{"apps": len(apps.Items), "fns": len(fns.Items), "triggers": len(triggers.Items)}
			for table, n := range left {
				if (n == 0) != (table == test.table) {
					t.Errorf("%d %s", n, table)
				}
			}
			id := test.table[:1] + "1"
			if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "id="+id+" ") {
				t.Errorf("the log does not warn of %s: %s", id, log.String())
			}
			_, err1 = s.AppByID(t.Context(), "a1")
			_, err2 = s.FnByID(t.Context(), "f1")
			_, err3 = s.TriggerByID(t.Context(), "t1")
			for table, err := range map[string]error{"apps": err1, "fns": err2, "triggers": err3} {
				if table == test.table && (err == nil || model.Describe(err).Kind != model.ErrInternal) || table != test.table && err != nil {
					t.Errorf("read from %s: %v", table, err)
				}
			}
		})
	}
}

// Forms that Fn and its tools have written over the years.
func TestOldFormsOfRowsAreRead(t *testing.T) {
	for _, change := range []string{
		"UPDATE fns SET config = 'null' || char(10), annotations = 'null'",
		"UPDATE fns SET config = '{}' || char(10), annotations = '{}' || char(10), shape = ''",
		"UPDATE apps SET syslog_url = '', annotations = char(10), config = ' ', created_at = NULL, updated_at = ''",
		"UPDATE fns SET created_at = '2019-10-13T14:54:45.459123+02:00'",
	} {
		s := open(t, rawDatabase(t, fnTables, "INSERT INTO schema_migrations VALUES (26, 0)", change))
		app, err := s.AppByID(t.Context(), "a1")
		if err != nil || app.SyslogURL != nil {
			t.Errorf("%s: %+v, %v", change, app, err)
		}
		fn, err := s.FnByID(t.Context(), "f1")
		if err != nil || fn.Config == nil {
			t.Errorf("%s: %+v, %v", change, fn, err)
		}
		if _, err := s.UpdateFn(t.Context(), &model.Fn{ID: "f1", Memory: 64}); err != nil {
			t.Errorf("%s: %v", change, err)
		}
	}
}

func TestCursorsPassBrokenRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fn.db")
	s := open(t, path)
	for _, name := range []string{"a", "b", "c"} {
		insertApp(t, s, name)
	}
	execute(t, path, "UPDATE apps SET config = '{' WHERE name = 'c'")
	// The row behind the page is broken: its name still decides the cursor.
	page, err := s.ListApps(t.Context(), model.AppFilter{Page: model.PageRequest{PerPage: 2}})
	if want := (model.Position{Name: "b"}).Cursor(); err != nil || page.NextCursor != want {
		t.Errorf("got cursor %q, want %q; %v", page.NextCursor, want, err)
	}
}
