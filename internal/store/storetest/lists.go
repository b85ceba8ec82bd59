package storetest

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"

	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/model"
)

var listRules = []rule{
	{"empty lists have items that are not nil", emptyLists},
	{"functions and triggers are listed by app only", listsNeedAnApp},
	{"filters are exact and combined", listFilters},
	{"order is binary by name", listOrder},
	{"a cursor leads to another item only", cursorsLeadSomewhere},
	{"page size zero and below is everything", wholeLists},
	{"pages are stable while items come and go", pagesAreStable},
	{"pages split equal names by identifier", pagesOfEqualNames},
	{"cursors that no server sent are refused", foreignCursors},
}

func emptyLists(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	apps, err1 := s.ListApps(t.Context(), model.AppFilter{Name: "unknown"})
	fns, err2 := s.ListFns(t.Context(), model.FnFilter{AppID: app.ID})
	fnsOfNone, err3 := s.ListFns(t.Context(), model.FnFilter{AppID: "unknown"})
	triggers, err4 := s.ListTriggers(t.Context(), model.TriggerFilter{AppID: app.ID, Page: model.PageRequest{PerPage: 1}})
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		t.Fatal(err1, err2, err3, err4)
	}
	if apps.Items == nil || fns.Items == nil || fnsOfNone.Items == nil || triggers.Items == nil {
		t.Error("items are nil")
	}
	if len(apps.Items)+len(fns.Items)+len(fnsOfNone.Items)+len(triggers.Items) != 0 {
		t.Error("items out of nowhere")
	}
	if apps.NextCursor+fns.NextCursor+fnsOfNone.NextCursor+triggers.NextCursor != "" {
		t.Error("cursor of an empty page")
	}
}

func listsNeedAnApp(t *testing.T, s store.Store) {
	_, err := s.ListFns(t.Context(), model.FnFilter{Name: "fn"})
	wantKind(t, err, model.ErrFnMissingAppID)
	_, err = s.ListTriggers(t.Context(), model.TriggerFilter{FnID: "fn"})
	wantKind(t, err, model.ErrTriggerMissingAppID)
}

func listFilters(t *testing.T, s store.Store) {
	app, other := newApp(t, s, "app"), newApp(t, s, "other")
	fn, second, foreign := newFn(t, s, app, "fn"), newFn(t, s, app, "second"), newFn(t, s, other, "fn")
	newTrigger(t, s, fn, "x", "/fn-x")
	newTrigger(t, s, fn, "y", "/fn-y")
	newTrigger(t, s, second, "x", "/second-x")
	newTrigger(t, s, foreign, "x", "/foreign-x")

	apps, err := s.ListApps(t.Context(), model.AppFilter{Name: "app"})
	if err != nil || len(apps.Items) != 1 || apps.Items[0].ID != app.ID {
		t.Errorf("%+v, %v", apps, err)
	}
	fns, err := s.ListFns(t.Context(), model.FnFilter{AppID: app.ID, Name: "fn"})
	if err != nil || len(fns.Items) != 1 || fns.Items[0].ID != fn.ID {
		t.Errorf("%+v, %v", fns, err)
	}
	for _, test := range []struct {
		filter model.TriggerFilter
		want   []string
	}{
		{model.TriggerFilter{AppID: app.ID}, []string{"/fn-x", "/second-x", "/fn-y"}},
		{model.TriggerFilter{AppID: app.ID, Name: "x"}, []string{"/fn-x", "/second-x"}},
		{model.TriggerFilter{AppID: app.ID, FnID: fn.ID}, []string{"/fn-x", "/fn-y"}},
		{model.TriggerFilter{AppID: app.ID, FnID: second.ID, Name: "x"}, []string{"/second-x"}},
		{model.TriggerFilter{AppID: app.ID, FnID: second.ID, Name: "y"}, nil},
		{model.TriggerFilter{AppID: other.ID, FnID: fn.ID}, nil},
		{model.TriggerFilter{AppID: app.ID, Name: "X"}, nil},
	} {
		page, err := s.ListTriggers(t.Context(), test.filter)
		if err != nil {
			t.Fatal(err)
		}
		wantNames(t, triggerSources(page.Items), test.want...)
	}
}

func listOrder(t *testing.T, s store.Store) {
	given := []string{"é", "b", "a", "B", "_", "-", "a-", "1", "10", "9", "日", "Z", "ab"}
	for _, name := range given {
		newApp(t, s, name)
	}
	page, err := s.ListApps(t.Context(), model.AppFilter{})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, appNames(page.Items), slices.Sorted(slices.Values(given))...)
}

func cursorsLeadSomewhere(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	fn := newFn(t, s, app, "fn0")
	for i := range 6 {
		if i > 0 {
			newApp(t, s, fmt.Sprintf("app%d", i))
			newFn(t, s, app, fmt.Sprintf("fn%d", i))
		}
		newTrigger(t, s, fn, fmt.Sprintf("t%d", i), fmt.Sprintf("/%d", i))
	}
	for perPage, wantSizes := range map[int][]int{
		1: {1, 1, 1, 1, 1, 1}, 2: {2, 2, 2}, 3: {3, 3}, 4: {4, 2}, 5: {5, 1}, 6: {6}, 7: {6},
	} {
		apps, appSizes := allPages(t, perPage, func(ctx context.Context, page model.PageRequest) (model.Page[*model.App], error) {
			return s.ListApps(ctx, model.AppFilter{Page: page})
		})
		wantNames(t, appNames(apps), "app", "app1", "app2", "app3", "app4", "app5")
		fns, fnSizes := allPages(t, perPage, func(ctx context.Context, page model.PageRequest) (model.Page[*model.Fn], error) {
			return s.ListFns(ctx, model.FnFilter{AppID: app.ID, Page: page})
		})
		wantNames(t, fnNames(fns), "fn0", "fn1", "fn2", "fn3", "fn4", "fn5")
		triggers, triggerSizes := allPages(t, perPage, func(ctx context.Context, page model.PageRequest) (model.Page[*model.Trigger], error) {
			return s.ListTriggers(ctx, model.TriggerFilter{AppID: app.ID, FnID: fn.ID, Page: page})
		})
		wantNames(t, triggerSources(triggers), "/0", "/1", "/2", "/3", "/4", "/5")
		for _, sizes := range [][]int{appSizes, fnSizes, triggerSizes} {
			if !slices.Equal(sizes, wantSizes) {
				t.Errorf("%d per page: got pages of %v, want %v", perPage, sizes, wantSizes)
			}
		}
	}
	// Fn clients know the cursor as the name of the last item.
	page, err := s.ListApps(t.Context(), model.AppFilter{Page: model.PageRequest{PerPage: 2}})
	if want := base64.RawURLEncoding.EncodeToString([]byte("app1")); err != nil || page.NextCursor != want {
		t.Errorf("got cursor %q, want %q; %v", page.NextCursor, want, err)
	}
}

func wholeLists(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	for i := range model.MaxPerPage + 10 {
		newFn(t, s, app, fmt.Sprintf("fn%03d", i))
	}
	for _, perPage := range []int{0, -1} {
		page, err := s.ListFns(t.Context(), model.FnFilter{AppID: app.ID, Page: model.PageRequest{PerPage: perPage}})
		if err != nil || len(page.Items) != model.MaxPerPage+10 || page.NextCursor != "" {
			t.Errorf("%d per page: %d items, cursor %q, %v", perPage, len(page.Items), page.NextCursor, err)
		}
	}
	page, err := s.ListFns(t.Context(), model.FnFilter{
		AppID: app.ID, Page: model.PageRequest{Cursor: model.Position{Name: "fn107"}.Cursor()},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, fnNames(page.Items), "fn108", "fn109")
}

func pagesAreStable(t *testing.T, s store.Store) {
	for _, name := range []string{"b", "d", "f"} {
		newApp(t, s, name)
	}
	first, err := s.ListApps(t.Context(), model.AppFilter{Page: model.PageRequest{PerPage: 2}})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, appNames(first.Items), "b", "d")
	if err := s.RemoveApp(t.Context(), first.Items[1].ID); err != nil { // the item that the cursor names
		t.Fatal(err)
	}
	newApp(t, s, "a")
	newApp(t, s, "e")
	second, err := s.ListApps(t.Context(), model.AppFilter{Page: model.PageRequest{PerPage: 2, Cursor: first.NextCursor}})
	if err != nil || second.NextCursor != "" {
		t.Errorf("cursor %q, %v", second.NextCursor, err)
	}
	wantNames(t, appNames(second.Items), "e", "f")
}

func pagesOfEqualNames(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	var want []string
	for i := range 5 {
		fn := newFn(t, s, app, fmt.Sprintf("fn%d", i))
		want = append(want, newTrigger(t, s, fn, "same", fmt.Sprintf("/%d", i)).ID)
		if i == 0 {
			want = append([]string{newTrigger(t, s, fn, "before", "/before").ID}, want...)
		}
	}
	want = append(want, newTrigger(t, s, newFn(t, s, app, "last"), "then", "/then").ID)
	for perPage := 1; perPage <= len(want)+1; perPage++ {
		triggers, sizes := allPages(t, perPage, func(ctx context.Context, page model.PageRequest) (model.Page[*model.Trigger], error) {
			return s.ListTriggers(ctx, model.TriggerFilter{AppID: app.ID, Page: page})
		})
		wantNames(t, names(triggers, func(t *model.Trigger) string { return t.ID }), want...)
		if pages := (len(want) + perPage - 1) / perPage; len(sizes) != pages {
			t.Errorf("%d per page: got %d pages, want %d", perPage, len(sizes), pages)
		}
	}
	// The identifier is in the cursor only where the name is not enough.
	for perPage, wantAt := range map[int]model.Position{
		1: {Name: "before"}, 2: {Name: "same", ID: want[1]}, 5: {Name: "same", ID: want[4]}, 6: {Name: "same"},
	} {
		page, err := s.ListTriggers(t.Context(), model.TriggerFilter{AppID: app.ID, Page: model.PageRequest{PerPage: perPage}})
		if err != nil || page.NextCursor != wantAt.Cursor() {
			t.Errorf("%d per page: got cursor %q, want %q; %v", perPage, page.NextCursor, wantAt.Cursor(), err)
		}
	}
	// A cursor that is a name alone means the next name.
	page, err := s.ListTriggers(t.Context(), model.TriggerFilter{
		AppID: app.ID, Page: model.PageRequest{PerPage: 9, Cursor: model.Position{Name: "same"}.Cursor()},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, triggerSources(page.Items), "/then")
}

func foreignCursors(t *testing.T, s store.Store) {
	for _, perPage := range []int{0, 10} {
		request := model.PageRequest{Cursor: "not base64!", PerPage: perPage}
		_, err := s.ListApps(t.Context(), model.AppFilter{Page: request})
		wantKind(t, err, model.ErrInvalidCursor)
		_, err = s.ListFns(t.Context(), model.FnFilter{AppID: "app", Page: request})
		wantKind(t, err, model.ErrInvalidCursor)
		_, err = s.ListTriggers(t.Context(), model.TriggerFilter{AppID: "app", Page: request})
		wantKind(t, err, model.ErrInvalidCursor)
	}
}
