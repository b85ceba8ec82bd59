package drivertest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
)

// The tests of this file are about containers that are frozen.

// freezingTests are part of Run.
var freezingTests = []conformanceTest{
	{"FrozenContainerIsAliveAfterThaw", freeze},
	{"FrozenContainerMakesNoProgress", freezeStopsProgress},
	{"FreezeAndThawManyTimes", freezeOften},
	{"FreezeAfterExitFails", freezeAfterExit},
	{"StopEndsAFrozenContainer", stopFrozen},
	{"StopKillsAFrozenContainerThatIgnoresIt", stopFrozenDeaf},
	{"RemoveEndsAFrozenContainer", removeFrozen},
	{"RemoveMayOvertakeFreeze", removeWhileFreezing},
	{"RemoveMayOvertakeThaw", removeWhileThawing},
	{"FreezeAfterRemoveFails", freezeAfterRemove},
	{"CloseRemovesFrozenContainers", closeRemovesFrozen},
}

// RunFreezing tries only how a driver freezes containers, for drivers that
// have more than one way to do it.
func RunFreezing(t *testing.T, newDriver func(t *testing.T) driver.Driver, images Images) {
	runAll(t, newDriver, images, freezingTests)
}

// freezer is a driver that can freeze.
func (s *suite) freezer() driver.Driver {
	s.Helper()
	d := s.driver()
	if !d.Capabilities().Freeze {
		s.Skip("the engine cannot freeze")
	}
	return d
}

// startFrozen starts a container and freezes it.
func (s *suite) startFrozen(d driver.Driver, spec *driver.Spec) driver.Container {
	s.Helper()
	c := s.start(d, spec)
	s.must("freeze", c.Freeze(s.Context()))
	return c
}

func freeze(s *suite) {
	d := s.freezer()
	c := s.start(d, s.spec("sleep"))
	for range 3 {
		s.must("freeze", c.Freeze(s.Context()))
		s.must("thaw", c.Thaw(s.Context()))
	}
	ctx, cancel := context.WithTimeout(s.Context(), 50*time.Millisecond)
	defer cancel()
	if exit, err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("wait: %+v, %v", exit, err)
	}
	s.must("stop", c.Stop(s.Context()))
	s.wait(c)
}

// unanswered is how long a frozen function is watched for an answer that it
// must not give. A running one takes about a millisecond.
const unanswered = 150 * time.Millisecond

func freezeStopsProgress(s *suite) {
	d := s.freezer()
	dir := socketDir(s)
	c := s.start(d, functionSpec(s, dir))
	awaitSocket(s, dir)
	for range 3 {
		s.must("freeze", c.Freeze(s.Context()))
		var (
			wg     sync.WaitGroup
			answer string
			err    error
			done   = make(chan struct{})
		)
		wg.Go(func() {
			defer close(done)
			answer, err = exchange(s.Context(), dir, "count", "12345")
		})
		select {
		case <-done:
			s.Errorf("a frozen function answers %q, %v", answer, err)
		case <-time.After(unanswered):
		}
		s.must("thaw", c.Thaw(s.Context()))
		wg.Wait()
		if err != nil || answer != "5" {
			s.Errorf("answer after thaw %q, %v", answer, err)
		}
	}
}

func freezeOften(s *suite) {
	d := s.freezer()
	dir := socketDir(s)
	c := s.start(d, functionSpec(s, dir))
	awaitSocket(s, dir)
	for range 200 {
		s.must("freeze", c.Freeze(s.Context()))
		s.must("thaw", c.Thaw(s.Context()))
	}
	if got := call(s, dir, "count", "123"); got != "3" {
		s.Errorf("answer %q", got)
	}
}

// freezeAfterExit tries containers that were frozen before and that were not.
func freezeAfterExit(s *suite) {
	d := s.freezer()
	for _, before := range []bool{false, true} {
		c := s.start(d, s.spec("sleep"))
		if before {
			s.must("freeze", c.Freeze(s.Context()))
			s.must("thaw", c.Thaw(s.Context()))
		}
		s.must("stop", c.Stop(s.Context()))
		s.wait(c)
		if err := c.Freeze(s.Context()); err == nil {
			s.Errorf("frozen before: %t: a container that has ended was frozen", before)
		}
		if err := c.Thaw(s.Context()); err == nil {
			s.Errorf("frozen before: %t: a container that has ended was thawed", before)
		}
		s.must("remove", c.Remove(s.Context()))
	}
}

func stopFrozen(s *suite) {
	d := s.freezer()
	c := s.startFrozen(d, s.spec("sleep"))
	s.must("stop", c.Stop(s.Context()))
	if exit := s.wait(c); exit.Code == 0 || exit.OutOfMemory {
		s.Errorf("exit %+v of a process that was ended", exit)
	}
	if err := c.Thaw(s.Context()); err == nil {
		s.Error("a container that has ended was thawed")
	}
}

func stopFrozenDeaf(s *suite) {
	d := s.freezer()
	c := s.startDeaf(d, nil)
	s.must("freeze", c.Freeze(s.Context()))
	ctx, cancel := context.WithTimeout(s.Context(), 100*time.Millisecond)
	defer cancel()
	s.must("stop", c.Stop(ctx))
	if exit := s.wait(c); exit != (driver.Exit{Code: 137}) {
		s.Errorf("exit %+v, want 137", exit)
	}
}

func removeFrozen(s *suite) {
	d := s.freezer()
	spec := s.spec("deaf")
	c := s.startFrozen(d, spec)
	ended := s.waiting(c)
	s.must("remove", c.Remove(s.Context()))
	if got := <-ended; got.err != nil && !errors.Is(got.err, driver.ErrGone) {
		s.Errorf("wait: %v", got.err)
	}
	createAgain(s, d, spec)
}

// removeWhileFreezing lets Remove begin at different moments of the first
// Freeze, which finds out how to freeze, and of a later one.
func removeWhileFreezing(s *suite) {
	d := s.freezer()
	for round := range 10 {
		overtake(s, d, round, round%2 == 1, driver.Container.Freeze)
	}
}

func removeWhileThawing(s *suite) {
	d := s.freezer()
	for round := range 4 {
		overtake(s, d, round, true, func(c driver.Container, ctx context.Context) error {
			return errors.Join(c.Freeze(ctx), c.Thaw(ctx))
		})
	}
}

// overtake removes a container beside another operation, whose error does not
// matter, and makes sure that nothing is left and that everything returns.
func overtake(s *suite, d driver.Driver, round int, frozenBefore bool, do func(driver.Container, context.Context) error) {
	s.Helper()
	spec := s.spec("sleep")
	c := s.start(d, spec)
	if frozenBefore {
		s.must("freeze", c.Freeze(s.Context()))
		s.must("thaw", c.Thaw(s.Context()))
	}
	began := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() { _ = do(c, s.Context()) })
	// From at once to where a real engine is in the middle of it.
	<-time.After(time.Duration(round/2) * 2 * time.Millisecond)
	s.must("remove", c.Remove(s.Context()))
	wg.Wait()
	if _, err := c.Wait(s.Context()); !errors.Is(err, driver.ErrGone) {
		s.Errorf("wait after removal: %v", err)
	}
	createAgain(s, d, spec)
	if took := time.Since(began); took > patience/3 {
		s.Errorf("round %d took %v", round, took)
	}
}

func freezeAfterRemove(s *suite) {
	d := s.freezer()
	for _, before := range []bool{false, true} {
		c := s.start(d, s.spec("sleep"))
		if before {
			s.must("freeze", c.Freeze(s.Context()))
			s.must("thaw", c.Thaw(s.Context()))
		}
		s.must("remove", c.Remove(s.Context()))
		if err := c.Freeze(s.Context()); !errors.Is(err, driver.ErrGone) {
			s.Errorf("frozen before: %t: freeze after removal: %v", before, err)
		}
		if err := c.Thaw(s.Context()); !errors.Is(err, driver.ErrGone) {
			s.Errorf("frozen before: %t: thaw after removal: %v", before, err)
		}
	}
}

func closeRemovesFrozen(s *suite) {
	d := s.newDriver(s.T)
	if !d.Capabilities().Freeze {
		s.must("close", d.Close(s.Context()))
		s.Skip("the engine cannot freeze")
	}
	spec := s.spec("deaf")
	s.startFrozen(d, spec)
	s.must("close", d.Close(s.Context()))
	createAgain(s, s.driver(), spec)
}
