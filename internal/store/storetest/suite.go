// Package storetest is the suite that every implementation of store.Store
// passes. It says by example what the interfaces promise: read suite.go first,
// then one file per subject.
package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/model"
)

// rule is one promise of a store; check gets an empty store of its own.
type rule struct {
	name  string
	check func(t *testing.T, s store.Store)
}

// Run checks every rule as a subtest. open returns an empty store and has the
// test close it.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	subjects := []struct {
		name  string
		rules []rule
	}{
		{"apps", appRules},
		{"fns", fnRules},
		{"triggers", triggerRules},
		{"annotations", annotationRules},
		{"lists", listRules},
		{"odd text", textRules},
		{"concurrency", concurrencyRules},
	}
	for _, subject := range subjects {
		t.Run(subject.name, func(t *testing.T) {
			for _, r := range subject.rules {
				t.Run(r.name, func(t *testing.T) {
					t.Parallel()
					r.check(t, open(t))
				})
			}
		})
	}
}

func newApp(t *testing.T, s store.Store, name string) *model.App {
	t.Helper()
	app, err := s.InsertApp(t.Context(), &model.App{Name: name})
	if err != nil {
		t.Fatalf("insert app %q: %v", name, err)
	}
	return app
}

func newFn(t *testing.T, s store.Store, app *model.App, name string) *model.Fn {
	t.Helper()
	fn, err := s.InsertFn(t.Context(), &model.Fn{Name: name, AppID: app.ID, Image: "example/image:1"})
	if err != nil {
		t.Fatalf("insert fn %q: %v", name, err)
	}
	return fn
}

// triggerFor is what a client sends to create a trigger of fn.
func triggerFor(fn *model.Fn, name, source string) *model.Trigger {
	return &model.Trigger{Name: name, AppID: fn.AppID, FnID: fn.ID, Type: model.TriggerTypeHTTP, Source: source}
}

func newTrigger(t *testing.T, s store.Store, fn *model.Fn, name, source string) *model.Trigger {
	t.Helper()
	trigger, err := s.InsertTrigger(t.Context(), triggerFor(fn, name, source))
	if err != nil {
		t.Fatalf("insert trigger %q %q: %v", name, source, err)
	}
	return trigger
}

// wantKind checks the kind of an error, as errors.Is and as clients see it.
func wantKind(t *testing.T, err error, want model.Kind) {
	t.Helper()
	if !errors.Is(err, want) || model.Describe(err).Kind != want {
		t.Errorf("got error %v, want %v", err, want)
	}
}

// wantSame compares definitions; a nil map is an empty one.
func wantSame[T any](t *testing.T, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// copyOf returns a deep copy, to find out whether an argument was changed.
func copyOf[T any](t *testing.T, given *T) *T {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // annotations are compared as texts
	if err := encoder.Encode(given); err != nil {
		t.Fatal(err)
	}
	copied := new(T)
	if err := json.Unmarshal(text.Bytes(), copied); err != nil {
		t.Fatal(err)
	}
	return copied
}

// wantNew checks the identifier and the timestamps of something just made.
func wantNew(t *testing.T, id string, created, updated model.Timestamp) {
	t.Helper()
	if len(id) != model.IDLength {
		t.Errorf("identifier %q", id)
	}
	if age := time.Since(created.Time); age < 0 || age > time.Minute {
		t.Errorf("created at %v, which is %v ago", created, age)
	}
	if !created.Equal(updated.Time) {
		t.Errorf("created at %v, updated at %v", created, updated)
	}
}

// wantChanged checks the timestamps of something just changed.
func wantChanged(t *testing.T, created, updated, oldCreated, oldUpdated model.Timestamp) {
	t.Helper()
	if !created.Equal(oldCreated.Time) {
		t.Errorf("created_at went from %v to %v", oldCreated, created)
	}
	if !updated.After(oldUpdated.Time) {
		t.Errorf("updated_at went from %v to %v", oldUpdated, updated)
	}
}

// pager reads one page of some list.
type pager[T any] func(ctx context.Context, page model.PageRequest) (model.Page[T], error)

// allPages follows the cursors and returns the items and the page sizes.
func allPages[T any](t *testing.T, perPage int, read pager[T]) (items []T, sizes []int) {
	t.Helper()
	request := model.PageRequest{PerPage: perPage}
	for {
		page, err := read(t.Context(), request)
		if err != nil {
			t.Fatalf("page after %q: %v", request.Cursor, err)
		}
		items, sizes = append(items, page.Items...), append(sizes, len(page.Items))
		if page.NextCursor == "" {
			return items, sizes
		}
		if request.Cursor = page.NextCursor; len(sizes) > 1000 {
			t.Fatal("the pages do not end")
		}
	}
}

func appNames(apps []*model.App) []string {
	return names(apps, func(a *model.App) string { return a.Name })
}

func fnNames(fns []*model.Fn) []string {
	return names(fns, func(f *model.Fn) string { return f.Name })
}

func triggerSources(triggers []*model.Trigger) []string {
	return names(triggers, func(t *model.Trigger) string { return t.Source })
}

func names[T any](items []T, name func(T) string) []string {
	result := make([]string, 0, len(items))
	for _, item := range items {
		result = append(result, name(item))
	}
	return result
}

func wantNames(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
