package runner

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
)

func TestReportTellsHowLongTheImageTook(t *testing.T) {
	const nap = 30 * time.Millisecond
	var w witness
	b := newBenchOn(t, fake.New(fake.Options{EnsureImage: func(context.Context, driver.ImageRequest) (driver.Image, error) {
		time.Sleep(nap)
		return driver.Image{}, nil
	}}), func(o *Options) { o.Observer = &w })
	for range 2 {
		b.mustRun(t, newTestCall("x"))
	}
	reports := w.await(t, 2)
	if first := reports[0].Timing; first.Image < nap || first.Image > first.Queued {
		t.Errorf("the first call was queued for %v, the image took %v", first.Queued, first.Image)
	}
	if second := reports[1].Timing; second.Image != 0 || second.Create != 0 || second.Start != 0 || second.Init != 0 {
		t.Errorf("a warm call is told of a launch: %+v", second)
	}
}

func TestTimesInTheLogHaveTheirUnit(t *testing.T) {
	const nap = 20 * time.Millisecond
	var log lockedLog
	var w witness
	b := newBenchOn(t, fake.New(fake.Options{EnsureImage: func(context.Context, driver.ImageRequest) (driver.Image, error) {
		time.Sleep(nap)
		return driver.Image{}, nil
	}}), func(o *Options) {
		o.Observer, o.Logger = &w, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	b.mustRun(t, newTestCall("x"))
	w.await(t, 1)
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(log.String(), "call finished"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is logged")
		}
	}
	times := map[string]time.Duration{}
	for _, field := range strings.Fields(log.String()) {
		name, value, _ := strings.Cut(field, "=")
		if took, err := time.ParseDuration(value); err == nil { // it needs a unit
			times[name] = took
		}
	}
	for _, name := range []string{"queued", "pull", "first_byte", "total"} {
		if _, ok := times[name]; !ok {
			t.Errorf("no %s in %s", name, log.String())
		}
	}
	if times["pull"] < nap || times["queued"] < times["pull"] || times["total"] < times["queued"] {
		t.Errorf("%v", times)
	}
}
