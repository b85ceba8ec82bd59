package edge_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

func TestWriteErrorTurnsKindsIntoResponses(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	leave()
	tests := []struct {
		name   string
		ctx    context.Context
		err    error
		status int
		body   string
		level  string // of the log record; empty if none
	}{
		{"client's fault", nil, model.ErrAppNotFound, 404, "App not found", ""},
		{"wrapped kind", nil, fmt.Errorf("get: %w", model.ErrFnNotFound), 404, "Fn not found", ""},
		{"own text", nil, model.Errorf(model.ErrInvalidText, "a <b> & c"), 400, `a \u003cb\u003e \u0026 c`, ""},
		{"own status", nil, &model.Error{Kind: model.ErrImagePullFailed, Message: "pull", Status: 404}, 404, "pull", ""},
		{"function's fault", nil, model.ErrFunctionFailed, 502, "function failed", ""},
		{"busy", nil, model.ErrServerBusy, 503, "Timed out - server too busy", "INFO"},
		{"unknown", nil, errors.New("disk on fire"), 500, "internal server error", "ERROR"},
		{"unknown, client left", gone, errors.New("interrupted"), 444, "", ""},
		{"cancelled, client left", gone, context.Canceled, 444, "", ""},
		{"kind says that the client left", nil, model.ErrClientCanceled, 444, "", ""},
		{"cancelled by the server itself", nil, context.Canceled, 500, "internal server error", "ERROR"},
		{"known failure, client left", gone, model.ErrRequestTooLarge, 413, "Request content too large", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log strings.Builder
			logger := slog.New(slog.NewTextHandler(&log, nil))
			r := httptest.NewRequest("GET", "/x", nil)
			if tt.ctx != nil {
				r = r.WithContext(tt.ctx)
			}
			rec := httptest.NewRecorder()
			rec.Header().Set("Fn-Call-Id", "ID")
			rec.Header().Set("Content-Encoding", "gzip")
			rec.Header().Set("Content-Length", "99")
			edge.WriteError(rec, r, logger, tt.err)

			want, contentType := "", ""
			if tt.body != "" {
				want, contentType = `{"message":"`+tt.body+`"}`+"\n", "application/json; charset=utf-8"
			}
			if rec.Code != tt.status || rec.Body.String() != want {
				t.Errorf("got %d %q, want %d %q", rec.Code, rec.Body, tt.status, want)
			}
			header := rec.Header()
			if tt.body != "" && (header.Get("Content-Type") != contentType || header.Get("Content-Encoding") != "" ||
				header.Get("Content-Length") != fmt.Sprint(len(want)) || header.Get("Fn-Call-Id") != "ID") {
				t.Errorf("header = %v", header)
			}
			if got := header.Get("Retry-After"); (got == "15") != (tt.status == 503) {
				t.Errorf("Retry-After = %q", got)
			}
			if tt.level == "" && log.Len() > 0 || !strings.Contains(log.String(), "level="+tt.level) && tt.level != "" {
				t.Errorf("want level %q, log is %q", tt.level, log.String())
			}
			if tt.level == "ERROR" && !strings.Contains(log.String(), tt.err.Error()) {
				t.Errorf("the cause is not logged: %s", log.String())
			}
		})
	}
}

func TestRetryAfterIsWhatTheErrorSays(t *testing.T) {
	for _, tt := range []struct {
		after time.Duration
		want  string
	}{
		{0, "15"}, {time.Millisecond, "1"}, {1500 * time.Millisecond, "2"}, {40 * time.Second, "40"}, {time.Hour, "300"},
	} {
		rec := httptest.NewRecorder()
		edge.WriteError(rec, httptest.NewRequest("GET", "/x", nil), nil, fmt.Errorf("full: %w", model.WithRetryAfter(model.ErrServerBusy, tt.after)))
		if got := rec.Header().Get("Retry-After"); rec.Code != 503 || got != tt.want {
			t.Errorf("after %v: %d, %q", tt.after, rec.Code, got)
		}
	}
}

func TestBusyServerDoesNotFloodItsLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		router := newRouter(t, edge.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		router.Handle("GET", "/", func(http.ResponseWriter, *http.Request) error { return model.ErrServerBusy })
		for range 100 {
			do(router, "GET", "/", nil)
		}
		time.Sleep(time.Second)
		do(router, "GET", "/", nil)
		if got := log.String(); strings.Count(got, "server busy") != 2 || !strings.Contains(got, "others=99") {
			t.Errorf("the log says %s", got)
		}
	})
}

func TestWriteJSONIsCompactAndEscaped(t *testing.T) {
	rec := httptest.NewRecorder()
	if err := edge.WriteJSON(rec, http.StatusAccepted, map[string]string{"a": "<&>"}); err != nil {
		t.Fatal(err)
	}
	want := `{"a":"\u003c\u0026\u003e"}`
	if rec.Code != 202 || rec.Body.String() != want || rec.Header().Get("Content-Length") != fmt.Sprint(len(want)) ||
		rec.Header().Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("got %d %q %v", rec.Code, rec.Body, rec.Header())
	}
}

func TestWriteJSONSendsNothingIfItCannotEncode(t *testing.T) {
	router := newRouter(t, edge.Options{Logger: slog.New(slog.DiscardHandler)})
	router.Handle("GET", "/", func(w http.ResponseWriter, _ *http.Request) error {
		return edge.WriteJSON(w, 200, func() {})
	})
	if rec := do(router, "GET", "/", nil); rec.Code != 500 {
		t.Errorf("got %d, want 500", rec.Code)
	}
}
