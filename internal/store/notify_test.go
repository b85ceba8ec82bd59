package store_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/internal/store/sqlstore"
	"github.com/tinefn/tine/model"
)

func TestEveryWriteThatSucceedsIsTold(t *testing.T) {
	ctx := t.Context()
	inner, err := sqlstore.Open(ctx, "sqlite3://"+filepath.Join(t.TempDir(), "fn.db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	var told []store.Change
	s := store.Notify(inner, func(c store.Change) { told = append(told, c) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	app, err := s.InsertApp(ctx, &model.App{Name: "app"})
	must(err)
	_, err = s.UpdateApp(ctx, &model.App{ID: app.ID, Config: model.Config{"a": "b"}})
	must(err)
	fn, err := s.InsertFn(ctx, &model.Fn{Name: "fn", AppID: app.ID, Image: "image"})
	must(err)
	_, err = s.UpdateFn(ctx, &model.Fn{ID: fn.ID, Memory: 64})
	must(err)
	trigger, err := s.InsertTrigger(ctx, &model.Trigger{Name: "t", AppID: app.ID, FnID: fn.ID, Type: "http", Source: "/a"})
	must(err)
	_, err = s.UpdateTrigger(ctx, &model.Trigger{ID: trigger.ID, Source: "/b"})
	must(err)
	must(s.RemoveTrigger(ctx, trigger.ID))
	must(s.RemoveFn(ctx, fn.ID))
	must(s.RemoveApp(ctx, app.ID))
	want := []store.Change{
		{AppID: app.ID},
		{FnID: fn.ID},
		{FnID: fn.ID},
		{},
		{},
		{},
		{FnID: fn.ID, Removed: true},
		{AppID: app.ID, Removed: true},
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	told = nil
	for name, err := range map[string]error{
		"remove app": s.RemoveApp(ctx, app.ID), "remove fn": s.RemoveFn(ctx, fn.ID), "remove trigger": s.RemoveTrigger(ctx, trigger.ID),
	} {
		if err == nil {
			t.Errorf("%s again succeeded", name)
		}
	}
	if _, err := s.UpdateFn(ctx, &model.Fn{ID: "none"}); err == nil || len(told) > 0 {
		t.Errorf("%v, told %v", err, told)
	}
}
