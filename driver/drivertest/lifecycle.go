package drivertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tinefn/tine/driver"
)

// The tests of this file follow one container through its life.

func exitCode(s *suite) {
	d := s.driver()
	for _, want := range []int{0, 7} {
		c := s.start(d, s.spec("exit", fmt.Sprint(want)))
		for range 2 { // asking again is legal
			if got := s.wait(c); got != (driver.Exit{Code: want}) {
				s.Errorf("exit %+v, want code %d", got, want)
			}
		}
	}
}

func waitBeforeStart(s *suite) {
	d := s.driver()
	c := s.create(d, s.spec("exit", "3"))
	ended := s.waiting(c)
	s.must("start", c.Start(s.Context()))
	if got := <-ended; got.err != nil || got.exit.Code != 3 {
		s.Errorf("wait: %+v", got)
	}
}

func waitContext(s *suite) {
	d := s.driver()
	c := s.start(d, s.spec("sleep"))
	ctx, cancel := context.WithTimeout(s.Context(), 50*time.Millisecond)
	defer cancel()
	if exit, err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("wait: %+v, %v", exit, err)
	}
	cancelled, cancelNow := context.WithCancel(s.Context())
	cancelNow()
	if exit, err := c.Wait(cancelled); !errors.Is(err, context.Canceled) || errors.Is(err, driver.ErrUnavailable) {
		s.Errorf("wait: %+v, %v", exit, err)
	}
	s.must("stop", c.Stop(s.Context()))
	s.wait(c)
}

func stop(s *suite) {
	d := s.driver()
	c := s.start(d, s.spec("sleep"))
	s.must("stop", c.Stop(s.Context()))
	if exit := s.wait(c); exit.Code == 0 || exit.OutOfMemory {
		s.Errorf("exit %+v of a process that was ended", exit)
	}
	s.must("stop what has ended", c.Stop(s.Context()))
}

// The memory limit is there because a process that was stopped must not be
// taken for one that had too little memory.
func stopDeaf(s *suite) {
	d := s.driver()
	c := s.startDeaf(d, func(spec *driver.Spec) { spec.Limits.MemoryBytes = 64 << 20 })
	s.must("stop", c.Stop(s.Context()))
	if exit := s.wait(c); exit != (driver.Exit{Code: 137}) {
		s.Errorf("exit %+v, want 137", exit)
	}
}

func stopContext(s *suite) {
	d := s.driver()
	c := s.startDeaf(d, nil)
	ctx, cancel := context.WithTimeout(s.Context(), 100*time.Millisecond)
	defer cancel()
	s.must("stop", c.Stop(ctx))
	if exit := s.wait(c); exit != (driver.Exit{Code: 137}) {
		s.Errorf("exit %+v, want 137", exit)
	}
}

func removeRunning(s *suite) {
	d := s.driver()
	c := s.startDeaf(d, nil)
	ended := s.waiting(c)
	s.must("remove", c.Remove(s.Context()))
	if got := <-ended; got.err != nil && !errors.Is(got.err, driver.ErrGone) {
		s.Errorf("wait: %v", got.err)
	} else if got.err == nil && got.exit.Code == 0 {
		s.Error("wait: a process that was killed has status 0")
	}
	if _, err := c.Wait(s.Context()); !errors.Is(err, driver.ErrGone) {
		s.Errorf("wait after removal: %v", err)
	}
}

func removeBeforeStart(s *suite) {
	d := s.driver()
	c := s.create(d, s.spec("sleep"))
	ended := s.waiting(c)
	s.must("remove", c.Remove(s.Context()))
	if got := <-ended; !errors.Is(got.err, driver.ErrGone) {
		s.Errorf("wait: %+v", got)
	}
	if err := c.Start(s.Context()); !errors.Is(err, driver.ErrGone) {
		s.Errorf("start after removal: %v", err)
	}
}

func removeTwice(s *suite) {
	d := s.driver()
	c := s.start(d, s.spec("exit", "0"))
	s.wait(c)
	s.must("remove", c.Remove(s.Context()))
	s.must("remove again", c.Remove(s.Context()))
}

func output(s *suite) {
	d := s.driver()
	for _, wanted := range []struct{ stdout, stderr bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		var stdout, stderr lockedBuffer
		spec := s.spec("print", "to stdout", "to stderr")
		if wanted.stdout {
			spec.Stdout = &stdout
		}
		if wanted.stderr {
			spec.Stderr = &stderr
		}
		c := s.start(d, spec)
		s.wait(c)
		s.must("remove", c.Remove(s.Context()))
		if got, want := stdout.String(), map[bool]string{true: "to stdout\n"}[wanted.stdout]; got != want {
			s.Errorf("standard output %q, want %q", got, want)
		}
		if got, want := stderr.String(), map[bool]string{true: "to stderr\n"}[wanted.stderr]; got != want {
			s.Errorf("standard error %q, want %q", got, want)
		}
	}
}

// openedOutput is for programs whose log is a file: the function's user may open
// what its output is.
func openedOutput(s *suite) {
	d := s.driver()
	for _, path := range []string{"/dev/stdout", "/dev/stderr", "/proc/self/fd/1"} {
		var printed lockedBuffer
		spec := s.spec("write", path, "to a file")
		spec.Security.Unprivileged = true
		spec.Stdout, spec.Stderr = &printed, &printed
		c := s.start(d, spec)
		s.wait(c)
		s.must("remove", c.Remove(s.Context()))
		if got := printed.String(); got != "to a file\n" {
			s.Errorf("%s: output %q", path, got)
		}
	}
}

func environment(s *suite) {
	d := s.driver()
	var written lockedBuffer
	spec := s.spec("env", "COLOUR")
	spec.Env = []string{"COLOUR=blue = green", "OTHER=1"}
	spec.Stdout = &written
	c := s.start(d, spec)
	s.wait(c)
	s.must("remove", c.Remove(s.Context()))
	if got, want := written.String(), "blue = green\n"; got != want {
		s.Errorf("output %q, want %q", got, want)
	}
}

// Whose fault it is decides what callers are told, and whether the machine is to blame.
func missingProgram(s *suite) {
	if s.images.Broken == "" {
		s.Skip("this engine has no programs")
	}
	d := s.driver()
	spec := s.spec()
	spec.Image = s.images.Broken
	c := s.create(d, spec)
	err := c.Start(s.Context())
	if !errors.Is(err, driver.ErrProgram) || errors.Is(err, driver.ErrUnavailable) || errors.Is(err, driver.ErrExhausted) || !strings.Contains(err.Error(), "/nothing") {
		s.Errorf("start: %v", err)
	}
	s.must("remove", c.Remove(s.Context()))
}
