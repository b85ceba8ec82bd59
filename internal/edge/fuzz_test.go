package edge_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/edge"
)

// FuzzRouterPaths sends any path to a router with the patterns that invite
// confusion: it answers, gives parameters that make up the path again, and
// redirects to nowhere but itself.
func FuzzRouterPaths(f *testing.F) {
	for _, path := range []string{"", "/", "//evil.example/", "/\\evil.example/", "/t/a/b", "/t//", "/x/y/z/", "*", "/x\x00/", "/%2f%2fevil.example/", "/x?/", "/x;/"} {
		f.Add("GET", path)
	}
	f.Add("BREW", "/x")
	router := newRouter(f, edge.Options{Logger: slog.New(slog.DiscardHandler)})
	params := map[string]string{}
	note := func(_ http.ResponseWriter, r *http.Request) error {
		for _, name := range []string{"a", "b", "c", "*"} {
			params[name] = edge.Param(r, name)
		}
		return nil
	}
	router.Handle("GET", "/{a}", note)
	router.Handle("POST", "/{a}/", note)
	router.Handle("GET", "/{a}/{b}/{c}", note)
	router.Handle("*", "/t/{a}/*", note)
	own, err := url.Parse("http://own.example/")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL.Path = method, path
		rec := httptest.NewRecorder()
		router.ServeHTTP(rec, r)
		switch rec.Code {
		case 200:
			rebuilt := edge.RoutePattern(r)
			for _, name := range []string{"a", "b", "c"} {
				rebuilt = strings.Replace(rebuilt, "{"+name+"}", strings.ReplaceAll(params[name], "{", "\x01"), 1)
			}
			if rest, ok := strings.CutSuffix(rebuilt, "*"); ok && strings.HasPrefix(edge.RoutePattern(r), "/t/") {
				rebuilt = rest + params["*"]
			}
			if strings.ReplaceAll(rebuilt, "{", "\x01") != strings.ReplaceAll(path, "{", "\x01") {
				t.Errorf("%q matched %q with parameters of %q", path, edge.RoutePattern(r), rebuilt)
			}
		case 301, 307:
			location := rec.Header().Get("Location")
			target, err := url.Parse(location)
			if err != nil || strings.Trim(target.Path, "/") != strings.Trim(path, "/") {
				t.Fatalf("%q redirects to %q (%v)", path, location, err)
			}
			if host := own.ResolveReference(target).Host; host != own.Host || strings.ContainsAny(location, "\\\r\n") {
				t.Errorf("%q redirects to %q on %q", path, location, host)
			}
		case 404, 405:
		default:
			t.Errorf("%s %q: %d", method, path, rec.Code)
		}
	})
}
