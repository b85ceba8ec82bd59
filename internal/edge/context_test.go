package edge_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

func TestRequestID(t *testing.T) {
	const header = "X-My-Id"
	long := strings.Repeat("x", 128)
	tests := []struct {
		name, option, sent string
		kept               bool
	}{
		{"off", "", "abc", false},
		{"from the client", header, "abc-1", true},
		{"longest", header, long, true},
		{"too long", header, long + "x", false},
		{"absent", header, "", false},
		{"control character", header, "a\tb", false},
		{"not ASCII", header, "é", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log strings.Builder
			logger := slog.New(edge.LogHandler(slog.NewTextHandler(&log, nil)))
			router := newRouter(t, edge.Options{RequestIDHeader: tt.option})
			var got string
			router.Handle("GET", "/", func(_ http.ResponseWriter, r *http.Request) error {
				got = edge.RequestID(r.Context())
				logger.With("a", 1).InfoContext(r.Context(), "hello")
				return nil
			})
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set(header, tt.sent)
			rec := httptest.NewRecorder()
			router.ServeHTTP(rec, r)

			switch {
			case tt.option == "":
				if got != "" || strings.Contains(log.String(), "fn_request_id") {
					t.Errorf("got %q, log %s", got, log.String())
				}
			case tt.kept && got != tt.sent, !tt.kept && len(got) != model.IDLength:
				t.Errorf("got %q for %q", got, tt.sent)
			case !strings.Contains(log.String(), " a=1 fn_request_id="+got):
				t.Errorf("log lacks the id %q: %s", got, log.String())
			}
			if echoed := rec.Header().Get(header); echoed != "" {
				t.Errorf("the id is echoed: %q", echoed)
			}
		})
	}
}
