package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/definition"
	"github.com/tinefn/tine/definition/definitiontest"
	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/internal/store/sqlstore"
	"github.com/tinefn/tine/model"
)

func openStore(t *testing.T) store.Store {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), "sqlite3://"+filepath.Join(t.TempDir(), "fn.db"), sqlstore.Options{})
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

// told is a list of what listeners hear, and what one of them objects to.
type told struct {
	heard  []string
	object string
}

var errObjection = errors.New("for the test")

func (h *told) hear(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	h.heard = append(h.heard, what)
	if what == h.object {
		return errObjection
	}
	return nil
}

func (h *told) listeners(who string) store.Listeners {
	app := func(what string) func(context.Context, *model.App) error {
		return func(_ context.Context, app *model.App) error { return h.hear("%s %s app %s", who, what, app.Name) }
	}
	fn := func(what string) func(context.Context, *model.Fn) error {
		return func(_ context.Context, fn *model.Fn) error { return h.hear("%s %s fn %s", who, what, fn.Name) }
	}
	trigger := func(what string) func(context.Context, *model.Trigger) error {
		return func(_ context.Context, trigger *model.Trigger) error {
			return h.hear("%s %s trigger %s", who, what, trigger.Name)
		}
	}
	id := func(what string) func(context.Context, string) error {
		return func(context.Context, string) error { return h.hear("%s %s", who, what) }
	}
	return store.Listeners{
		Apps: []definition.AppListener{{
			BeforeCreate: app("before create"), AfterCreate: app("after create"), BeforeUpdate: app("before update"), AfterUpdate: app("after update"),
			BeforeDelete: id("before delete app"), AfterDelete: id("after delete app"), BeforeGet: id("before get app"), AfterGet: app("after get"),
			BeforeList: func(_ context.Context, filter *model.AppFilter) error {
				return h.hear("%s before list %s", who, filter.Name)
			},
			AfterList: func(_ context.Context, apps []*model.App) error { return h.hear("%s after list %d", who, len(apps)) },
		}},
		Fns: []definition.FnListener{{
			BeforeCreate: fn("before create"), AfterCreate: fn("after create"), BeforeUpdate: fn("before update"), AfterUpdate: fn("after update"),
			BeforeDelete: id("before delete fn"), AfterDelete: id("after delete fn"),
		}},
		Triggers: []definition.TriggerListener{{
			BeforeCreate: trigger("before create"), AfterCreate: trigger("after create"), BeforeUpdate: trigger("before update"), AfterUpdate: trigger("after update"),
			BeforeDelete: id("before delete trigger"), AfterDelete: id("after delete trigger"),
		}},
	}
}

// operation is one on a store in which app, fn and trigger are.
type operation struct {
	name   string // as listeners hear of it
	after  string // likewise
	do     func(ctx context.Context, s store.Store, app, fn, trigger string) error
	undone func(ctx context.Context, s store.Store, app, fn, trigger string) bool // nil: it changes nothing
}

// operations are all that listeners hear of, in an order that does not matter.
func operations() []operation {
	return []operation{
		{"before create app two", "after create app two", func(ctx context.Context, s store.Store, _, _, _ string) error {
			_, err := s.InsertApp(ctx, &model.App{Name: "two"})
			return err
		}, func(ctx context.Context, s store.Store, _, _, _ string) bool {
			_, err := s.AppIDByName(ctx, "two")
			return errors.Is(err, model.ErrAppNotFound)
		}},
		{"before update app ", "after update app app", func(ctx context.Context, s store.Store, app, _, _ string) error {
			_, err := s.UpdateApp(ctx, &model.App{ID: app, Config: model.Config{"a": "b"}})
			return err
		}, func(ctx context.Context, s store.Store, app, _, _ string) bool {
			found, err := s.AppByID(ctx, app)
			return err == nil && len(found.Config) == 0
		}},
		{"before get app", "after get app app", func(ctx context.Context, s store.Store, app, _, _ string) error {
			_, err := s.AppByID(ctx, app)
			return err
		}, nil},
		{"before list app", "after list 1", func(ctx context.Context, s store.Store, _, _, _ string) error {
			_, err := s.ListApps(ctx, model.AppFilter{Name: "app", Page: model.PageRequest{PerPage: 10}})
			return err
		}, nil},
		{"before create fn two", "after create fn two", func(ctx context.Context, s store.Store, app, _, _ string) error {
			_, err := s.InsertFn(ctx, &model.Fn{Name: "two", AppID: app, Image: "i", Memory: 128, Timeout: 30, IdleTimeout: 30})
			return err
		}, func(ctx context.Context, s store.Store, app, _, _ string) bool {
			page, err := s.ListFns(ctx, model.FnFilter{AppID: app, Page: model.PageRequest{PerPage: 10}})
			return err == nil && len(page.Items) == 1
		}},
		{"before update fn ", "after update fn fn", func(ctx context.Context, s store.Store, _, fn, _ string) error {
			_, err := s.UpdateFn(ctx, &model.Fn{ID: fn, Memory: 64})
			return err
		}, func(ctx context.Context, s store.Store, _, fn, _ string) bool {
			found, err := s.FnByID(ctx, fn)
			return err == nil && found.Memory == 128
		}},
		{"before create trigger two", "after create trigger two", func(ctx context.Context, s store.Store, app, fn, _ string) error {
			_, err := s.InsertTrigger(ctx, &model.Trigger{Name: "two", AppID: app, FnID: fn, Type: "http", Source: "/two"})
			return err
		}, func(ctx context.Context, s store.Store, app, _, _ string) bool {
			_, err := s.TriggerBySource(ctx, app, "http", "/two")
			return errors.Is(err, model.ErrTriggerNotFound)
		}},
		{"before update trigger ", "after update trigger trigger", func(ctx context.Context, s store.Store, _, _, trigger string) error {
			_, err := s.UpdateTrigger(ctx, &model.Trigger{ID: trigger, Source: "/other"})
			return err
		}, func(ctx context.Context, s store.Store, _, _, trigger string) bool {
			found, err := s.TriggerByID(ctx, trigger)
			return err == nil && found.Source == "/a"
		}},
		{"before delete trigger", "after delete trigger", func(ctx context.Context, s store.Store, _, _, trigger string) error {
			return s.RemoveTrigger(ctx, trigger)
		}, func(ctx context.Context, s store.Store, _, _, trigger string) bool {
			_, err := s.TriggerByID(ctx, trigger)
			return err == nil
		}},
		{"before delete fn", "after delete fn", func(ctx context.Context, s store.Store, _, fn, _ string) error {
			return s.RemoveFn(ctx, fn)
		}, func(ctx context.Context, s store.Store, _, fn, _ string) bool {
			_, err := s.FnByID(ctx, fn)
			return err == nil
		}},
		{"before delete app", "after delete app", func(ctx context.Context, s store.Store, app, _, _ string) error {
			return s.RemoveApp(ctx, app)
		}, func(ctx context.Context, s store.Store, app, _, _ string) bool {
			_, err := s.AppByID(ctx, app)
			return err == nil
		}},
	}
}

// filled is a store with one of each.
func filled(t *testing.T) (s store.Store, app, fn, trigger string) {
	t.Helper()
	s = openStore(t)
	a, err := s.InsertApp(t.Context(), &model.App{Name: "app"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.InsertFn(t.Context(), &model.Fn{Name: "fn", AppID: a.ID, Image: "i", Memory: 128, Timeout: 30, IdleTimeout: 30})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := s.InsertTrigger(t.Context(), &model.Trigger{Name: "trigger", AppID: a.ID, FnID: f.ID, Type: "http", Source: "/a"})
	if err != nil {
		t.Fatal(err)
	}
	return s, a.ID, f.ID, tr.ID
}

func TestListenersHearOfEveryOperationAndMayObject(t *testing.T) {
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			for _, test := range []struct {
				object string
				heard  []string
				done   bool
			}{
				{"", []string{"1 " + op.name, "2 " + op.name, "1 " + op.after, "2 " + op.after}, true},
				{"1 " + op.name, []string{"1 " + op.name}, false},
				{"2 " + op.name, []string{"1 " + op.name, "2 " + op.name}, false},
				{"1 " + op.after, []string{"1 " + op.name, "2 " + op.name, "1 " + op.after}, true},
			} {
				inner, app, fn, trigger := filled(t)
				h := &told{object: test.object}
				one, two := h.listeners("1"), h.listeners("2")
				s := store.Listen(inner, store.Listeners{
					Apps: append(one.Apps, two.Apps...), Fns: append(one.Fns, two.Fns...), Triggers: append(one.Triggers, two.Triggers...),
				})
				err := op.do(t.Context(), s, app, fn, trigger)
				if (test.object == "") != (err == nil) || err != nil && !errors.Is(err, errObjection) {
					t.Errorf("objection %q: %v", test.object, err)
				}
				if diff := cmp.Diff(test.heard, h.heard); diff != "" {
					t.Errorf("objection %q: heard (-want +got)\n%s", test.object, diff)
				}
				if op.undone != nil && op.undone(t.Context(), inner, app, fn, trigger) == test.done {
					t.Errorf("objection %q: done is not %v", test.object, test.done)
				}
			}
		})
	}
}

func TestListenersChangeACopyOfWhatIsGiven(t *testing.T) {
	s := store.Listen(openStore(t), store.Listeners{Apps: []definition.AppListener{{
		BeforeCreate: func(_ context.Context, app *model.App) error {
			app.Config["owner"] = "listener"
			return nil
		},
		BeforeList: func(_ context.Context, filter *model.AppFilter) error {
			filter.Name = "app"
			return nil
		},
	}}})
	given := &model.App{Name: "app", Config: model.Config{"a": "b"}}
	made, err := s.InsertApp(t.Context(), given)
	if err != nil || made.Config["owner"] != "listener" || len(given.Config) != 1 {
		t.Errorf("made %+v of %+v, %v", made, given, err)
	}
	if _, err := s.InsertApp(t.Context(), &model.App{Name: "other", Config: model.Config{}}); err != nil {
		t.Error(err)
	}
	if page, err := s.ListApps(t.Context(), model.AppFilter{Page: model.PageRequest{PerPage: 10}}); err != nil || len(page.Items) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
}

// A store with listeners is still a store.
func TestListeningStorePassesTheSuite(t *testing.T) {
	definitiontest.Run(t, func(t *testing.T) definition.Store {
		return store.Listen(openStore(t), store.Listeners{Apps: make([]definition.AppListener, 1)})
	})
}
