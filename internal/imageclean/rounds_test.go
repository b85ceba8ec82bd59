package imageclean

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver"
)

func TestRoundsComeAtOnceThenByTheClockAndWhenWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := New(slog.New(slog.NewTextHandler(&log, nil)), 10, "do this")
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var at []time.Duration
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.Run(ctx, func(context.Context) error {
				at = append(at, time.Since(began))
				return errors.New("the disk is away")
			})
		}()
		time.Sleep(Interval + time.Second)
		r.Wake()
		r.Wake() // both may be one round, and must not wait
		r.Wake()
		time.Sleep(Interval)
		cancel()
		<-ended
		woken := Interval + time.Second
		want := [][]time.Duration{{0, Interval, woken, 2 * Interval}, {0, Interval, woken, woken, 2 * Interval}}
		if !slices.Equal(at, want[0]) && !slices.Equal(at, want[1]) {
			t.Errorf("rounds at %v", at)
		}
		if got := strings.Count(log.String(), "the disk is away"); got != len(at) {
			t.Errorf("%d of %d failures are in the log", got, len(at))
		}
	})
}

func TestEndOfRunningIsNoFailure(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	New(slog.New(slog.NewTextHandler(&log, nil)), 10, "").Run(ctx, func(ctx context.Context) error {
		cancel()
		return ctx.Err()
	})
	if log.Len() > 0 {
		t.Errorf("the log says %s", &log)
	}
}

func TestThatTooMuchStaysIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	r := New(slog.New(slog.NewTextHandler(&log, nil)), 10, "do this")
	for i, step := range []struct {
		bytes int64
		said  int // so far
	}{{10, 0}, {11, 1}, {12, 1}, {10, 1}, {11, 2}} {
		r.Left(step.bytes)
		if got := strings.Count(log.String(), "or do this"); got != step.said {
			t.Errorf("step %d: said %d times, want %d", i, got, step.said)
		}
	}
}

func TestNothingIsTooMuchWithoutALimit(t *testing.T) {
	var log bytes.Buffer
	New(slog.New(slog.NewTextHandler(&log, nil)), 0, "").Left(1 << 60)
	if log.Len() > 0 {
		t.Errorf("the log says %s", &log)
	}
}

func TestStatsAreThoseOfTheLastRound(t *testing.T) {
	r := New(slog.New(slog.DiscardHandler), 10, "")
	if got, want := r.Stats(), (driver.ImageStats{MaxBytes: 10}); got != want {
		t.Errorf("before the first round: %+v", got)
	}
	want := driver.ImageStats{Busy: 1, BusyBytes: 3, MaxBytes: 10}
	r.Found(want)
	if got := r.Stats(); got != want {
		t.Errorf("got %+v", got)
	}
}
