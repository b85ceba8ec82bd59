package storetest

import (
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/model"
)

var textRules = []rule{
	{"names in any script", namesInAnyScript},
	{"text that looks like SQL is text", sqlIsText},
	{"wildcards match nothing but themselves", wildcardsAreText},
	{"configuration keeps any text", configKeepsAnyText},
	{"a megabyte where a name belongs", hugeNames},
}

// oddTexts are values that careless quoting would trip over.
var oddTexts = []string{
	`'`, `''`, `"`, "`", `\`, `\'`, `;`, `--`, `'; DROP TABLE apps; --`, `" OR ""="`, `?`, `$1`, `:name`, `@p`, `%`, `_`, `%25`,
	"line\nbreak", "tab\t", "é", "日本語", "😀", "\u202eright-to-left", "a\u0301", "<script>", "&amp;", `{"json":true}`, " ",
}

func namesInAnyScript(t *testing.T, s store.Store) {
	for _, name := range []string{"приложение", "アプリ", "تطبيق", "é", "e", "٣", "½", "a_-b", "-", "_", strings.Repeat("ß", 127)} {
		app := newApp(t, s, name)
		if id, err := s.AppIDByName(t.Context(), name); err != nil || id != app.ID {
			t.Errorf("%s: %q, %v", name, id, err)
		}
		page, err := s.ListApps(t.Context(), model.AppFilter{Name: name})
		if err != nil || len(page.Items) != 1 || page.Items[0].Name != name {
			t.Errorf("%s: %+v, %v", name, page, err)
		}
		newTrigger(t, s, newFn(t, s, app, "Az09-_.~$&+=:@"), name, "/"+name)
	}
}

func sqlIsText(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	fn := newFn(t, s, app, "fn")
	for i, text := range oddTexts {
		_, err := s.InsertApp(t.Context(), &model.App{Name: text})
		if text == "é" || text == "日本語" || text == "_" || text == "--" {
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
		} else {
			wantKind(t, err, model.ErrAppInvalidName)
		}
		_, err = s.AppByID(t.Context(), text)
		wantKind(t, err, model.ErrAppNotFound)
		_, err = s.FnByID(t.Context(), text)
		wantKind(t, err, model.ErrFnNotFound)
		_, err = s.TriggerByID(t.Context(), text)
		wantKind(t, err, model.ErrTriggerNotFound)
		wantKind(t, s.RemoveApp(t.Context(), text), model.ErrAppNotFound)
		fns, err := s.ListFns(t.Context(), model.FnFilter{AppID: text})
		if err != nil || len(fns.Items) != 0 {
			t.Errorf("functions of app %q: %+v, %v", text, fns, err)
		}
		cursor := model.Position{Name: text, ID: text}.Cursor()
		if _, err := s.ListApps(t.Context(), model.AppFilter{Page: model.PageRequest{Cursor: cursor, PerPage: 1}}); err != nil {
			t.Errorf("cursor at %q: %v", text, err)
		}
		if strings.ContainsAny(text, "\n\t") { // a source has no control characters
			continue
		}
		trigger := newTrigger(t, s, fn, "t"+strings.Repeat("x", i), "/"+text)
		got, err := s.TriggerBySource(t.Context(), app.ID, "http", "/"+text)
		if err != nil || got.ID != trigger.ID {
			t.Errorf("source %q: %+v, %v", text, got, err)
		}
	}
	if _, err := s.AppByID(t.Context(), app.ID); err != nil {
		t.Error(err)
	}
}

func wildcardsAreText(t *testing.T, s store.Store) {
	app := newApp(t, s, "abc")
	fn := newFn(t, s, app, "abc")
	newTrigger(t, s, fn, "abc", "/abc")
	for _, pattern := range []string{"%", "a%", "a_c", "___", "*", "a*", "ab?", "[a]bc", "ABC"} {
		apps, err1 := s.ListApps(t.Context(), model.AppFilter{Name: pattern})
		fns, err2 := s.ListFns(t.Context(), model.FnFilter{AppID: app.ID, Name: pattern})
		triggers, err3 := s.ListTriggers(t.Context(), model.TriggerFilter{AppID: app.ID, Name: pattern})
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatal(err1, err2, err3)
		}
		if n := len(apps.Items) + len(fns.Items) + len(triggers.Items); n != 0 {
			t.Errorf("%s matches %d names", pattern, n)
		}
		_, err := s.TriggerBySource(t.Context(), app.ID, "http", "/"+pattern)
		wantKind(t, err, model.ErrTriggerNotFound)
	}
}

func configKeepsAnyText(t *testing.T, s store.Store) {
	config := model.Config{"": "no key", "EMPTY": "", "LARGE": strings.Repeat("v", 1<<20)}
	for _, text := range oddTexts {
		config[text] = text
	}
	app, err := s.InsertApp(t.Context(), &model.App{Name: "app", Config: config})
	if err != nil {
		t.Fatal(err)
	}
	fn, err := s.InsertFn(t.Context(), &model.Fn{Name: "fn", AppID: app.ID, Image: `it's "odd"/%s:?`, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	readApp, err := s.AppByID(t.Context(), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	readFn, err := s.FnByID(t.Context(), fn.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, readApp.Config, config)
	wantSame(t, readFn.Config, config)
	wantSame(t, readFn.Image, `it's "odd"/%s:?`)
}

func hugeNames(t *testing.T, s store.Store) {
	huge := strings.Repeat("n", 1<<20)
	fn := newFn(t, s, newApp(t, s, "app"), "fn")
	_, err := s.InsertApp(t.Context(), &model.App{Name: huge})
	wantKind(t, err, model.ErrAppNameTooLong)
	_, err = s.InsertFn(t.Context(), &model.Fn{Name: huge, AppID: fn.AppID, Image: "image"})
	wantKind(t, err, model.ErrFnNameTooLong)
	_, err = s.InsertFn(t.Context(), &model.Fn{Name: "other", AppID: fn.AppID, Image: huge})
	wantKind(t, err, model.ErrFnImageTooLong)
	_, err = s.InsertTrigger(t.Context(), triggerFor(fn, huge, "/t"))
	wantKind(t, err, model.ErrTriggerNameTooLong)
	_, err = s.InsertTrigger(t.Context(), triggerFor(fn, "trigger", "/"+huge))
	wantKind(t, err, model.ErrTriggerSourceTooLong)
	_, err = s.AppIDByName(t.Context(), huge)
	wantKind(t, err, model.ErrAppNotFound)
	_, err = s.AppByID(t.Context(), huge)
	wantKind(t, err, model.ErrAppNotFound)
	_, err = s.InsertFn(t.Context(), &model.Fn{Name: "other", AppID: huge, Image: "image"})
	wantKind(t, err, model.ErrAppNotFound)
	_, err = s.TriggerBySource(t.Context(), fn.AppID, "http", "/"+huge)
	wantKind(t, err, model.ErrTriggerNotFound)
	page, err := s.ListApps(t.Context(), model.AppFilter{Name: huge, Page: model.PageRequest{Cursor: model.Position{Name: huge}.Cursor()}})
	if err != nil || len(page.Items) != 0 {
		t.Errorf("%d apps, %v", len(page.Items), err)
	}
}
