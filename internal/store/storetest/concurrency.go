package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/model"
)

// writers is how many clients write at a time.
const writers = 16

var concurrencyRules = []rule{
	{"writers and readers do not disturb each other", manyWriters},
	{"one of several equal apps is made", equalApps},
	{"one of several equal functions is made", equalFns},
	{"one of several triggers of a source is made", equalSources},
	{"updates of one object are not lost", updatesAreNotLost},
	{"one of several removals succeeds", equalRemovals},
	{"nothing is left of an app removed meanwhile", removedMeanwhile},
	{"a cancelled call changes nothing", cancelledCalls},
}

// together runs f for every writer at once and returns their errors.
func together(f func(writer int) error) []error {
	errs := make([]error, writers)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for writer := range writers {
		wg.Go(func() {
			<-start
			errs[writer] = f(writer)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// wantOneWinner checks that one writer succeeded and the others lost properly.
func wantOneWinner(t *testing.T, errs []error, loss model.Kind) {
	t.Helper()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			wantKind(t, err, loss)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d succeeded", won, len(errs))
	}
}

func manyWriters(t *testing.T, s store.Store) {
	const rounds = 5
	app := newApp(t, s, "app")
	for _, err := range together(func(writer int) error {
		for i := range rounds {
			name := fmt.Sprintf("w%d-%d", writer, i)
			fn, err := s.InsertFn(t.Context(), &model.Fn{Name: name, AppID: app.ID, Image: "image"})
			if err != nil {
				return err
			}
			trigger, err := s.InsertTrigger(t.Context(), triggerFor(fn, name, "/"+name))
			if err != nil {
				return err
			}
			if _, err := s.UpdateFn(t.Context(), &model.Fn{ID: fn.ID, Memory: 64}); err != nil {
				return err
			}
			if _, err := s.ListFns(t.Context(), model.FnFilter{AppID: app.ID}); err != nil {
				return err
			}
			read, err := s.FnByID(t.Context(), fn.ID)
			if err != nil {
				return err
			}
			if read.Memory != 64 {
				return fmt.Errorf("function %s: a read after the write sees %d MiB", fn.ID, read.Memory)
			}
			if err := s.RemoveTrigger(t.Context(), trigger.ID); err != nil {
				return err
			}
		}
		return nil
	}) {
		if err != nil {
			t.Error(err)
		}
	}
	fns, err := s.ListFns(t.Context(), model.FnFilter{AppID: app.ID})
	if err != nil || len(fns.Items) != writers*rounds {
		t.Errorf("%d functions, %v", len(fns.Items), err)
	}
}

func equalApps(t *testing.T, s store.Store) {
	wantOneWinner(t, together(func(int) error {
		_, err := s.InsertApp(t.Context(), &model.App{Name: "app"})
		return err
	}), model.ErrAppAlreadyExists)
}

func equalFns(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	wantOneWinner(t, together(func(int) error {
		_, err := s.InsertFn(t.Context(), &model.Fn{Name: "fn", AppID: app.ID, Image: "image"})
		return err
	}), model.ErrFnAlreadyExists)
}

func equalSources(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	var fns []*model.Fn
	for writer := range writers {
		fns = append(fns, newFn(t, s, app, fmt.Sprintf("fn%d", writer)))
	}
	wantOneWinner(t, together(func(writer int) error {
		_, err := s.InsertTrigger(t.Context(), triggerFor(fns[writer], "trigger", "/same"))
		return err
	}), model.ErrTriggerSourceExists)
	wantOneWinner(t, together(func(writer int) error {
		_, err := s.InsertTrigger(t.Context(), triggerFor(fns[0], "again", fmt.Sprintf("/%d", writer)))
		return err
	}), model.ErrTriggerAlreadyExists)
}

func updatesAreNotLost(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	for _, err := range together(func(writer int) error {
		_, err := s.UpdateApp(t.Context(), &model.App{ID: app.ID, Config: model.Config{fmt.Sprintf("KEY%d", writer): "v"}})
		return err
	}) {
		if err != nil {
			t.Error(err)
		}
	}
	read, err := s.AppByID(t.Context(), app.ID)
	if err != nil || len(read.Config) != writers {
		t.Errorf("%d of %d keys are there, %v", len(read.Config), writers, err)
	}
}

func equalRemovals(t *testing.T, s store.Store) {
	fn := newFn(t, s, newApp(t, s, "app"), "fn")
	wantOneWinner(t, together(func(int) error { return s.RemoveFn(t.Context(), fn.ID) }), model.ErrFnNotFound)
	wantOneWinner(t, together(func(int) error { return s.RemoveApp(t.Context(), fn.AppID) }), model.ErrAppNotFound)
}

func removedMeanwhile(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	fn := newFn(t, s, app, "fn")
	for writer, err := range together(func(writer int) error {
		switch {
		case writer == 0:
			return s.RemoveApp(t.Context(), app.ID)
		case writer%2 == 0:
			_, err := s.InsertFn(t.Context(), &model.Fn{Name: fmt.Sprintf("fn%d", writer), AppID: app.ID, Image: "image"})
			return err
		default:
			_, err := s.InsertTrigger(t.Context(), triggerFor(fn, fmt.Sprintf("t%d", writer), fmt.Sprintf("/%d", writer)))
			return err
		}
	}) {
		if err != nil && (writer == 0 || !errors.Is(err, model.ErrAppNotFound)) {
			t.Errorf("writer %d: %v", writer, err)
		}
	}
	fns, err := s.ListFns(t.Context(), model.FnFilter{AppID: app.ID})
	if err != nil || len(fns.Items) != 0 {
		t.Errorf("%d functions are left, %v", len(fns.Items), err)
	}
	triggers, err := s.ListTriggers(t.Context(), model.TriggerFilter{AppID: app.ID})
	if err != nil || len(triggers.Items) != 0 {
		t.Errorf("%d triggers are left, %v", len(triggers.Items), err)
	}
}

func cancelledCalls(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err1 := s.InsertApp(ctx, &model.App{Name: "other"})
	_, err2 := s.UpdateApp(ctx, &model.App{ID: app.ID, Config: model.Config{"K": "v"}})
	_, err3 := s.AppByID(ctx, app.ID)
	_, err4 := s.ListApps(ctx, model.AppFilter{})
	for _, err := range []error{err1, err2, err3, err4, s.RemoveApp(ctx, app.ID)} {
		if !errors.Is(err, context.Canceled) || model.Describe(err).Kind != model.ErrClientCanceled {
			t.Errorf("got %v", err)
		}
	}
	page, err := s.ListApps(t.Context(), model.AppFilter{})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	wantSame(t, page.Items[0], app)
}
