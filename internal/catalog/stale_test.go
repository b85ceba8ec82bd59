package catalog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/model"
)

// outage is a source that can be made to fail, after a time.
type outage struct {
	*source
	down  atomic.Bool
	after time.Duration
}

func (o *outage) fail() error {
	if !o.down.Load() {
		return nil
	}
	time.Sleep(o.after)
	return errors.New("connection refused")
}

func (o *outage) FnByID(ctx context.Context, id string) (*model.Fn, error) {
	if err := o.fail(); err != nil {
		return nil, err
	}
	return o.source.FnByID(ctx, id)
}

func (o *outage) AppByID(ctx context.Context, id string) (*model.App, error) {
	if err := o.fail(); err != nil {
		return nil, err
	}
	return o.source.AppByID(ctx, id)
}

// staleCatalog remembers for five seconds, and a minute more.
func staleCatalog(s Source, log *bytes.Buffer) *Catalog {
	return NewStale(s, DefaultTTL, Stale{
		For: time.Minute, Patience: 500 * time.Millisecond, Source: "http://api", Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
}

func TestDefinitionsAreUsedOnWhileTheSourceIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &outage{source: newSource(), after: 2 * time.Second}
		c := staleCatalog(s, &log)
		find := func() (time.Duration, error) {
			began := time.Now()
			target, err := c.ByFnID(t.Context(), "f1")
			if err == nil && target.Fn.Name != "pay" {
				t.Errorf("got %+v", target.Fn)
			}
			return time.Since(began), err
		}
		if _, err := find(); err != nil {
			t.Fatal(err)
		}
		s.down.Store(true)
		time.Sleep(6 * time.Second)
		if took, err := find(); err != nil || took != 500*time.Millisecond {
			t.Errorf("first after the TTL: %v, %v; want half a second of patience", took, err)
		}
		if took, err := find(); err != nil || took != 0 {
			t.Errorf("beside the same question: %v, %v; the patience is used up", took, err)
		}
		time.Sleep(2 * time.Second) // the question has failed
		for range 8 {               // of which several ask again, for which nobody waits
			if took, err := find(); err != nil || took != 0 {
				t.Errorf("while it is down: %v, %v", took, err)
			}
			time.Sleep(3 * time.Second)
		}
		if stats := c.Stats(); stats.Reachable || stats.StaleUses < 8 || stats.Failures < 3 {
			t.Errorf("%+v", stats)
		}
		if got := strings.Count(log.String(), "cannot be asked for"); got != 1 || !strings.Contains(log.String(), "http://api") {
			t.Errorf("%d lines about it:\n%s", got, &log)
		}
		time.Sleep(time.Minute)
		if _, err := find(); err == nil {
			t.Error("it is used for more than a minute")
		}

		s.down.Store(false)
		if _, err := find(); err != nil {
			t.Error(err)
		}
		if stats := c.Stats(); !stats.Reachable || strings.Count(log.String(), "again") != 1 {
			t.Errorf("%+v\n%s", stats, &log)
		}
	})
}

func TestWhatIsGoneIsGoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &outage{source: newSource()}
		c := staleCatalog(s, new(bytes.Buffer))
		if _, err := c.ByFnID(t.Context(), "f1"); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		delete(s.fns, "f1")
		s.mu.Unlock()
		time.Sleep(6 * time.Second)
		if _, err := c.ByFnID(t.Context(), "f1"); !errors.Is(err, model.ErrFnNotFound) {
			t.Errorf("got %v", err)
		}
		s.down.Store(true)
		if _, err := c.ByFnID(t.Context(), "f1"); err == nil || errors.Is(err, model.ErrFnNotFound) {
			t.Errorf("an answer was remembered that says no: %v", err)
		}
	})
}

func TestAnswerThatComesLateIsLearnt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		c := staleCatalog(s, new(bytes.Buffer))
		name := func() string {
			target, err := c.ByFnID(t.Context(), "f1")
			if err != nil {
				return err.Error()
			}
			return target.Fn.Name
		}
		name()
		s.mu.Lock()
		s.fns["f1"] = &model.Fn{ID: "f1", AppID: "a1", Name: "changed"}
		s.mu.Unlock()
		s.delay.Store(int64(time.Second))
		time.Sleep(6 * time.Second)
		if got := name(); got != "pay" {
			t.Errorf("while the source is slow: %s", got)
		}
		time.Sleep(time.Second)
		if got := name(); got != "changed" {
			t.Errorf("later: %s", got)
		}
	})
}

func TestOneQuestionFailsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &outage{source: newSource(), after: 2 * time.Second}
		c := staleCatalog(s, new(bytes.Buffer))
		if _, err := c.ByFnID(t.Context(), "f1"); err != nil {
			t.Fatal(err)
		}
		s.down.Store(true)
		time.Sleep(6 * time.Second)
		var wg sync.WaitGroup
		for range 10 { // whose patience ends before the question
			wg.Go(func() {
				if _, err := c.fns.get(t.Context(), "f1"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if stats := c.Stats(); stats.Failures != 1 || stats.Reachable {
			t.Errorf("when it is slow: %+v", stats)
		}
		time.Sleep(2 * time.Second)
		if stats := c.Stats(); stats.Failures != 1 || stats.Reachable {
			t.Errorf("when it has failed: %+v", stats)
		}
	})
}

func TestSourceThatAnswersInTheLastMomentIsNotDown(t *testing.T) {
	for range 50 { // which of the two is noticed first, is by chance
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			c := staleCatalog(s, new(bytes.Buffer))
			if _, err := c.ByFnID(t.Context(), "f1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Second)
			s.delay.Store(int64(500 * time.Millisecond)) // the patience
			if _, err := c.fns.get(t.Context(), "f1"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if !c.Stats().Reachable {
				t.Error("it has answered, and is taken to be down")
			}
		})
	}
}
