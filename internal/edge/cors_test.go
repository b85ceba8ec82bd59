package edge_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/edge"
)

func TestCORSOriginsNeedAnHTTPScheme(t *testing.T) {
	for _, tt := range []struct {
		origins []string
		ok      bool
	}{
		{nil, true},
		{[]string{"", " "}, true},
		{[]string{"*"}, true},
		{[]string{"*", "whatever"}, true},
		{[]string{"http://a", " HTTPS://B "}, true},
		{[]string{"a.example"}, false},
		{[]string{"http://a", "*"}, false},
		{[]string{"ftp://a"}, false},
	} {
		if _, err := edge.NewRouter(edge.Options{CORSOrigins: tt.origins}); (err == nil) != tt.ok {
			t.Errorf("%q: error %v, want ok = %t", tt.origins, err, tt.ok)
		}
	}
}

func TestCORS(t *testing.T) {
	preflight := func(origin string, headers string) http.Header {
		h := http.Header{
			"Access-Control-Allow-Origin":  {origin},
			"Access-Control-Allow-Methods": {"GET,POST,PUT,HEAD,DELETE"},
			"Access-Control-Allow-Headers": {headers},
			"Access-Control-Max-Age":       {"43200"},
		}
		if origin != "*" {
			h["Vary"] = []string{"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"}
		}
		return h
	}
	const standard = "Origin,Content-Length,Content-Type"
	listed := []string{"http://A.example", "https://b.example"}
	tests := []struct {
		name           string
		origins        []string
		headers        []string
		method, target string
		origin         string
		status         int
		want           http.Header // the CORS headers
		handled        bool
	}{
		{"off", nil, nil, "GET", "/x", "http://evil.example", 200, http.Header{}, true},
		{"no origin", listed, nil, "GET", "/x", "", 200, http.Header{}, true},
		{"own origin", listed, nil, "GET", "/x", "http://own.example", 200, http.Header{}, true},
		{"all", []string{"*"}, nil, "GET", "/x", "http://any.example", 200, http.Header{"Access-Control-Allow-Origin": {"*"}}, true},
		{"all, preflight", []string{"*"}, nil, "OPTIONS", "/x", "http://any.example", 200, preflight("*", standard), false},
		{
			"listed", listed, nil, "GET", "/x", "http://a.example", 200,
			http.Header{"Access-Control-Allow-Origin": {"http://a.example"}, "Vary": {"Origin"}},
			true,
		},
		{"listed, preflight", listed, nil, "OPTIONS", "/x", "https://b.example", 200, preflight("https://b.example", standard), false},
		{"own headers", listed, []string{"X-A", " X-B "}, "OPTIONS", "/x", "https://b.example", 200, preflight("https://b.example", "X-A,X-B"), false},
		{"preflight without a route", listed, nil, "OPTIONS", "/nowhere", "https://b.example", 200, preflight("https://b.example", standard), false},
		{
			"no route", listed, nil, "GET", "/nowhere", "https://b.example", 404,
			http.Header{"Access-Control-Allow-Origin": {"https://b.example"}, "Vary": {"Origin"}},
			false,
		},
		{"other origin", listed, nil, "GET", "/x", "http://evil.example", 403, http.Header{}, false},
		{"other origin, preflight", listed, nil, "OPTIONS", "/x", "http://evil.example", 403, http.Header{}, false},
		{"other case", listed, nil, "GET", "/x", "http://A.example", 403, http.Header{}, false},
		{"other scheme", listed, nil, "GET", "/x", "https://a.example", 403, http.Header{}, false},
		{"too large", listed, nil, "POST", "/x", "https://b.example", 413, http.Header{"Access-Control-Allow-Origin": {"https://b.example"}, "Vary": {"Origin"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			router := newRouter(t, edge.Options{CORSOrigins: tt.origins, CORSHeaders: tt.headers, MaxRequestBytes: 1})
			handled := false
			router.Handle("*", "/x", func(http.ResponseWriter, *http.Request) error {
				handled = true
				return nil
			})
			r := httptest.NewRequest(tt.method, tt.target, nil)
			r.Host = "own.example"
			if tt.method == "POST" {
				r.ContentLength = 2
			}
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			rec := httptest.NewRecorder()
			router.ServeHTTP(rec, r)

			got := rec.Header().Clone()
			got.Del("Content-Type")
			got.Del("Content-Length")
			got.Del("Connection")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("headers (-want +got)\n%s", diff)
			}
			if rec.Code != tt.status || handled != tt.handled {
				t.Errorf("got %d, handled %t; want %d, %t", rec.Code, handled, tt.status, tt.handled)
			}
			if (rec.Code == 403 || tt.method == "OPTIONS") && rec.Body.Len() > 0 {
				t.Errorf("body = %q, want none", rec.Body)
			}
		})
	}
}
