package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLogFormats(t *testing.T) {
	var out bytes.Buffer
	log, file, err := NewLogger(LogOptions{Format: "text", Level: slog.LevelInfo, Dest: "stderr", Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("unseen")
	log.Info("seen", slog.String("fn_id", "f"))
	if got := out.String(); strings.Contains(got, "unseen") || !strings.Contains(got, `level=INFO msg=seen fn_id=f`) {
		t.Errorf("text: %q", got)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}

	out.Reset()
	log, _, err = NewLogger(LogOptions{Format: "json", Level: LevelTrace, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	log.Log(t.Context(), LevelTrace, "deep", slog.Group("g", slog.Time("time", time.Unix(0, 0))))
	var record struct{ Time, Level, Msg string }
	if err := json.Unmarshal(out.Bytes(), &record); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339Nano, record.Time); err != nil || record.Level != "TRACE" || record.Msg != "deep" {
		t.Errorf("json: %s, %v", out.String(), err)
	}
}

func TestLogFileIsPrivateAndAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tine.log")
	for range 2 {
		log, file, err := NewLogger(LogOptions{Dest: "file://" + path})
		if err != nil {
			t.Fatal(err)
		}
		log.Info("line")
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil || strings.Count(string(content), "msg=line") != 2 {
		t.Errorf("%q, %v", content, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestPlacesWhereNoLogCanGo(t *testing.T) {
	for _, dest := range []string{"file:///nonexistent/dir/log", "udp://host:514", "somewhere", "file://"} {
		if _, _, err := NewLogger(LogOptions{Dest: dest}); err == nil {
			t.Errorf("%s was accepted", dest)
		}
	}
}

func TestMetricsTellOfTheProcess(t *testing.T) {
	recorder := httptest.NewRecorder()
	MetricsHandler(NewRegistry()).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(recorder.Body.String(), name) {
			t.Errorf("no %s in %d bytes", name, recorder.Body.Len())
		}
	}
}
