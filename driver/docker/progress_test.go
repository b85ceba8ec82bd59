package docker

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
)

// report is a pull's report whose lines come a pause apart.
func report(pause time.Duration, lines ...jsonstream.Message) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		for _, line := range lines {
			if !yield(line, nil) {
				return
			}
			time.Sleep(pause)
		}
	}
}

// lines is a logger and what it wrote.
func lines() (*slog.Logger, *bytes.Buffer) {
	var text bytes.Buffer
	return slog.New(slog.NewTextHandler(&text, nil)), &text
}

func TestLongPullsTellHowFarTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, text := lines()
		err := follow(t.Context(), report(4*time.Second,
			jsonstream.Message{Status: "Pulling from library/a", ID: "latest"},
			jsonstream.Message{Status: layerAnnounced, ID: "l1"},
			jsonstream.Message{Status: layerPresent, ID: "l2"},
			jsonstream.Message{Status: layerDownloads, ID: "l1", Progress: &jsonstream.Progress{Current: 30, Total: 100}},
			jsonstream.Message{Status: layerDownloaded, ID: "l1"},
			jsonstream.Message{Status: "Extracting", ID: "l1", Progress: &jsonstream.Progress{Current: 1, Total: 100}},
			jsonstream.Message{Status: layerPulled, ID: "l1"},
			jsonstream.Message{Status: "Digest: sha256:1"},
		), log)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Split(strings.TrimSpace(text.String()), "\n")
		if len(got) != 3 {
			t.Fatalf("in 32 seconds: %q", got)
		}
		for i, want := range []string{
			"layers_done=1 layers=2 bytes_done=0 bytes=0", // after 10 s
			"layers_done=1 layers=2 bytes_done=100 bytes=100",
			"layers_done=2 layers=2 bytes_done=100 bytes=100",
		} {
			if !strings.Contains(got[i], want) {
				t.Errorf("got %s\nwant %s", got[i], want)
			}
		}
	})
}

func TestQuickPullsTellNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, text := lines()
		if err := follow(t.Context(), report(time.Second, jsonstream.Message{Status: layerAnnounced, ID: "l1"}), log); err != nil || text.Len() != 0 {
			t.Errorf("%v, %s", err, text)
		}
	})
}

func TestReportEndsWithItsError(t *testing.T) {
	log, _ := lines()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := follow(ctx, report(0), log); !errors.Is(err, context.Canceled) {
		t.Errorf("a report that was cut: %v", err)
	}
	err := follow(t.Context(), report(0, jsonstream.Message{Error: &jsonstream.Error{Code: 503, Message: "busy"}}), log)
	if !errdefs.IsUnavailable(err) || engineLost(err) || err.Error() != "busy" {
		t.Errorf("an error with a code: %v", err)
	}
	if err := follow(t.Context(), report(0, jsonstream.Message{Error: &jsonstream.Error{Message: "no"}}), log); err == nil || err.Error() != "no" {
		t.Errorf("an error without one: %v", err)
	}
}
