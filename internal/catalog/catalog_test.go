package catalog

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/model"
)

// source is a small set of definitions that counts questions.
type source struct {
	mu       sync.Mutex
	apps     map[string]*model.App
	fns      map[string]*model.Fn
	triggers map[triggerKey]*model.Trigger
	delay    atomic.Int64 // time.Duration
	asked    atomic.Int32
}

func newSource() *source {
	return &source{
		apps:     map[string]*model.App{"a1": {ID: "a1", Name: "shop"}},
		fns:      map[string]*model.Fn{"f1": {ID: "f1", AppID: "a1", Name: "pay"}, "orphan": {ID: "orphan", AppID: "gone"}},
		triggers: map[triggerKey]*model.Trigger{{"a1", "http", "/pay"}: {ID: "t1", AppID: "a1", FnID: "f1", Source: "/pay"}},
	}
}

func (s *source) ask() func() {
	s.asked.Add(1)
	time.Sleep(time.Duration(s.delay.Load()))
	s.mu.Lock()
	return s.mu.Unlock
}

func (s *source) AppByID(_ context.Context, id string) (*model.App, error) {
	defer s.ask()()
	if app := s.apps[id]; app != nil {
		return app, nil
	}
	return nil, model.ErrAppNotFound
}

func (s *source) AppIDByName(_ context.Context, name string) (string, error) {
	defer s.ask()()
	for id, app := range s.apps {
		if app.Name == name {
			return id, nil
		}
	}
	return "", model.ErrAppNotFound
}

func (s *source) FnByID(_ context.Context, id string) (*model.Fn, error) {
	defer s.ask()()
	if fn := s.fns[id]; fn != nil {
		return fn, nil
	}
	return nil, model.ErrFnNotFound
}

func (s *source) TriggerBySource(_ context.Context, appID, triggerType, path string) (*model.Trigger, error) {
	defer s.ask()()
	if trigger := s.triggers[triggerKey{appID, triggerType, path}]; trigger != nil {
		return trigger, nil
	}
	return nil, model.ErrTriggerNotFound
}

func TestTargetsAreFoundByFunctionAndBySource(t *testing.T) {
	c := New(newSource(), DefaultTTL)
	target, err := c.ByFnID(t.Context(), "f1")
	if err != nil || target.App.Name != "shop" || target.Fn.Name != "pay" || target.Trigger != nil {
		t.Errorf("by function: %+v, %v", target, err)
	}
	target, err = c.ByHTTPSource(t.Context(), "shop", "/pay")
	if err != nil || target.App.Name != "shop" || target.Fn.Name != "pay" || target.Trigger.ID != "t1" {
		t.Errorf("by source: %+v, %v", target, err)
	}
}

func TestMissingDefinitionsAreNamed(t *testing.T) {
	c := New(newSource(), DefaultTTL)
	for name, test := range map[string]struct {
		find func() (Target, error)
		want error
	}{
		"function":        {func() (Target, error) { return c.ByFnID(t.Context(), "x") }, model.ErrFnNotFound},
		"function's app":  {func() (Target, error) { return c.ByFnID(t.Context(), "orphan") }, model.ErrAppNotFound},
		"app":             {func() (Target, error) { return c.ByHTTPSource(t.Context(), "x", "/pay") }, model.ErrAppNotFound},
		"trigger":         {func() (Target, error) { return c.ByHTTPSource(t.Context(), "shop", "/x") }, model.ErrTriggerNotFound},
		"not quite equal": {func() (Target, error) { return c.ByHTTPSource(t.Context(), "shop", "/pay/") }, model.ErrTriggerNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := test.find(); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestDefinitionsAreAskedForAgainAfterTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		c := New(s, 5*time.Second)
		find := func() Target {
			t.Helper()
			target, err := c.ByFnID(t.Context(), "f1")
			if err != nil {
				t.Fatal(err)
			}
			return target
		}
		find()
		first := s.asked.Load()
		s.mu.Lock()
		s.fns["f1"] = &model.Fn{ID: "f1", AppID: "a1", Name: "changed"}
		s.mu.Unlock()
		time.Sleep(4 * time.Second)
		if got := find().Fn.Name; got != "pay" || s.asked.Load() != first {
			t.Errorf("within the TTL: %q after %d questions", got, s.asked.Load()-first)
		}
		time.Sleep(time.Second)
		if got := find().Fn.Name; got != "changed" {
			t.Errorf("after the TTL: %q", got)
		}
	})
}

func TestErrorsAreNotRemembered(t *testing.T) {
	s := newSource()
	c := New(s, DefaultTTL)
	if _, err := c.ByFnID(t.Context(), "new"); !errors.Is(err, model.ErrFnNotFound) {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.fns["new"] = &model.Fn{ID: "new", AppID: "a1"}
	s.mu.Unlock()
	if _, err := c.ByFnID(t.Context(), "new"); err != nil {
		t.Error(err)
	}
}

func TestConcurrentCallersShareOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.delay.Store(int64(time.Second))
		c := New(s, DefaultTTL)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := c.ByFnID(t.Context(), "f1"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := s.asked.Load(); got != 2 { // function and app
			t.Errorf("%d questions, want 2", got)
		}
	})
}

func TestCallerThatLeavesDoesNotSpoilItForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.delay.Store(int64(time.Second))
		c := New(s, DefaultTTL)
		leaving, leave := context.WithCancel(t.Context())
		go func() {
			if _, err := c.ByFnID(leaving, "f1"); !errors.Is(err, context.Canceled) {
				t.Errorf("the one who left got %v", err)
			}
		}()
		synctest.Wait()
		go func() {
			if _, err := c.ByFnID(t.Context(), "f1"); err != nil {
				t.Errorf("the one who stayed got %v", err)
			}
		}()
		synctest.Wait()
		leave()
		time.Sleep(3 * time.Second)
	})
}

// panicking is a source of a program that has a fault.
type panicking struct{ *source }

func (panicking) FnByID(context.Context, string) (*model.Fn, error) { panic("for the test") }

func TestPanicOfTheSourceIsAnErrorOfThoseWhoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		c := New(panicking{s}, DefaultTTL)
		for range 2 { // each asks again
			_, err := c.ByFnID(t.Context(), "f1")
			if model.Describe(err).Kind != model.ErrInternal || !strings.Contains(err.Error(), "panicking.FnByID") {
				t.Errorf("got %v", err)
			}
		}
		if _, err := c.apps.get(t.Context(), "a1"); err != nil {
			t.Errorf("other questions fail too: %v", err)
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	const most = 1000
	c := newCache(policy{ttl: time.Hour, entries: most, health: new(health)}, func(_ context.Context, key int) (int, error) { return key, nil })
	for key := range 2*most + 1 {
		if _, err := c.get(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(c.entries); got > most || got < most/2 {
		t.Errorf("%d entries", got)
	}
}

func TestForgottenDefinitionsAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		c := New(s, DefaultTTL)
		name := func() string {
			target, err := c.ByFnID(t.Context(), "f1")
			if err != nil {
				return err.Error()
			}
			return target.Fn.Name
		}
		rename := func(to string) {
			s.mu.Lock()
			s.fns["f1"] = &model.Fn{ID: "f1", AppID: "a1", Name: to}
			s.mu.Unlock()
			c.Forget()
		}
		name()
		rename("second")
		if got := name(); got != "second" {
			t.Errorf("got %s", got)
		}
		// A question that is under way has the answer of before, and nobody who
		// asks later gets it.
		rename("third")
		s.delay.Store(int64(time.Second))
		go name()
		time.Sleep(1500 * time.Millisecond) // the app is known, the function asked for
		rename("fourth")
		s.delay.Store(int64(0))
		if got := name(); got != "fourth" {
			t.Errorf("got %s", got)
		}
		synctest.Wait()
		time.Sleep(2 * time.Second)
		if got := name(); got != "fourth" {
			t.Errorf("later %s", got)
		}
	})
}
