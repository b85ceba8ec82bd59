package httpapi_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/model"
)

func (s *server) names(target string) (names []string, next string) {
	s.t.Helper()
	list := s.must("GET", target, "")
	names = []string{}
	for _, item := range list.items(s.t) {
		names = append(names, item.text("name"))
	}
	return names, list.text("next_cursor")
}

func TestEmptyListsAreArrays(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app := s.createApp("app")
	for _, target := range []string{
		"/v2/apps?name=unknown", "/v2/apps?name=ap", "/v2/apps?name=APP", "/v2/fns?app_id=" + app, "/v2/fns?app_id=unknown",
		"/v2/triggers?app_id=" + app, "/v2/triggers?app_id=unknown", "/v2/triggers?app_id=" + app + "&fn_id=unknown",
	} {
		if got := s.call("GET", target, ""); got.status != 200 || got.body != `{"items":[]}` {
			t.Errorf("GET %s: %d %s", target, got.status, got.body)
		}
	}
}

func TestListFilters(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	a, b := s.createApp("a"), s.createApp("b")
	f1, f2 := s.createFn(a, "f1"), s.createFn(a, "f2")
	fb := s.createFn(b, "f1")
	s.createTrigger(a, f1, "same", "/1")
	s.createTrigger(a, f2, "same", "/2")
	s.createTrigger(a, f2, "only", "/3")
	s.createTrigger(b, fb, "other", "/1")
	tests := []struct {
		target string
		want   []string
	}{
		{"/v2/apps", []string{"a", "b"}},
		{"/v2/apps?name=b", []string{"b"}},
		{"/v2/apps?name=b&display_name=x&id=y&lifecycle_state=z&sort_by=q&sort_order=ASC&unknown", []string{"b"}},
		{"/v2/fns?app_id=" + a, []string{"f1", "f2"}},
		{"/v2/fns?app_id=" + a + "&name=f2", []string{"f2"}},
		{"/v2/triggers?app_id=" + a, []string{"only", "same", "same"}},
		{"/v2/triggers?app_id=" + a + "&fn_id=" + f2, []string{"only", "same"}},
		{"/v2/triggers?app_id=" + a + "&fn_id=" + f1 + "&name=same", []string{"same"}},
		{"/v2/triggers?app_id=" + a + "&source=/1&type=http", []string{"only", "same", "same"}},
		{"/v2/triggers?app_id=" + b + "&fn_id=" + f1, []string{}},
	}
	for _, tt := range tests {
		if got, _ := s.names(tt.target); !cmp.Equal(got, tt.want) {
			t.Errorf("GET %s: %q, want %q", tt.target, got, tt.want)
		}
	}
}

func TestPageSizes(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	const total = 105
	for i := range total {
		s.createApp(fmt.Sprintf("app%03d", i))
	}
	for query, want := range map[string]int{
		"": 30, "per_page=": 30, "per_page=x": 30, "per_page=0": 30, "per_page=-1": 30, "per_page=1e2": 30,
		"per_page=99999999999999999999": 30, "per_page=1": 1, "per_page=100": 100, "per_page=101": 100,
	} {
		if got, _ := s.names("/v2/apps?" + query); len(got) != want {
			t.Errorf("%q lists %d apps, want %d", query, len(got), want)
		}
	}

	_, next := s.names("/v2/apps?per_page=2")
	if want := base64.RawURLEncoding.EncodeToString([]byte("app001")); next != want {
		t.Errorf("next_cursor = %q, want %q", next, want)
	}
	var all []string
	for cursor, pages := "", 0; pages < 20; pages++ {
		names, next := s.names("/v2/apps?per_page=10&cursor=" + url.QueryEscape(cursor))
		all = append(all, names...)
		if cursor = next; cursor == "" {
			break
		}
	}
	if len(all) != total || all[0] != "app000" || all[total-1] != "app104" {
		t.Errorf("pages hold %d apps: %q", len(all), all)
	}
}

func TestCursorsMayPointAnywhere(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	s.createApp("b")
	s.createApp("d")
	for name, want := range map[string][]string{
		"": {"b", "d"}, "a": {"b", "d"}, "b": {"d"}, "c": {"d"}, "d": {}, "z\x00\xff": {}, "'; DROP TABLE apps; --": {"b", "d"},
	} {
		got, _ := s.names("/v2/apps?cursor=" + base64.RawURLEncoding.EncodeToString([]byte(name)))
		if !cmp.Equal(got, want) {
			t.Errorf("after %q: %q, want %q", name, got, want)
		}
	}
}

func TestEqualNamesAreNotLostBetweenPages(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app := s.createApp("app")
	want := map[string]bool{}
	for i := range 5 {
		fn := s.createFn(app, fmt.Sprint("fn", i))
		want[s.createTrigger(app, fn, "same", fmt.Sprint("/", i))] = true
	}
	got := map[string]bool{}
	for cursor, pages := "", 0; pages < 10; pages++ {
		list := s.must("GET", "/v2/triggers?app_id="+app+"&per_page=2&cursor="+url.QueryEscape(cursor), "")
		for _, item := range list.items(t) {
			got[item.text("id")] = true
		}
		if cursor = list.text("next_cursor"); cursor == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// countingStore counts the reads of single apps.
type countingStore struct {
	store.Store
	appReads int
}

func (c *countingStore) AppByID(ctx context.Context, id string) (*model.App, error) {
	c.appReads++
	return c.Store.AppByID(ctx, id)
}

func TestListingTriggersReadsTheirAppOnce(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app := s.createApp("app")
	fn := s.createFn(app, "fn")
	for i := range 10 {
		s.createTrigger(app, fn, fmt.Sprint("t", i), fmt.Sprint("/", i))
	}
	counting := &countingStore{Store: s.store}
	router, err := edge.NewRouter(edge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := httpapi.Register(router, httpapi.Options{Store: counting}); err != nil {
		t.Fatal(err)
	}
	s.router = router
	if names, _ := s.names("/v2/triggers?app_id=" + app); len(names) != 10 || counting.appReads != 1 {
		t.Errorf("%d triggers with %d reads of the app", len(names), counting.appReads)
	}
}
