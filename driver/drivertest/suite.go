// Package drivertest is the conformance suite of container drivers: what the
// pool relies on, tried on a real driver.
//
// The image of the tests holds a program that understands these commands:
//
//	exit N      ends at once with status N
//	sleep       sleeps until it is ended
//	deaf        ignores SIGTERM, says so by a line "deaf", and sleeps
//	print A B   writes A to standard output and B to standard error, a line each
//	write P A   opens the file P, which is there, and writes A to it
//	env NAME    writes the value of a variable to standard output
//
// Without a command it is a function that listens on FN_LISTENER and, for a
// request with the header Testfn-Mode: count, answers the length of the body.
//
// Besides what the pool relies on, there is what a hostile function must not be
// able to do: [RunHardening] looks at the fences, and RunEscape, on Linux, tries to
// get out.
package drivertest

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/model"
)

// Images are the images that the suite uses.
type Images struct {
	Program string // as the package comment describes it
	Missing string // an image that neither the engine nor a registry has
	Broken  string // an image whose program is not in it; empty: the engine has no programs

	Seccomp bool // the engine filters system calls, which RunHardening then wants to see
}

// patience bounds what a test waits for. Real engines need tenths of seconds.
const patience = 30 * time.Second

// Run tries the driver. Each test makes a driver of its own and closes it.
func Run(t *testing.T, newDriver func(t *testing.T) driver.Driver, images Images) {
	runAll(t, newDriver, images, []conformanceTest{
		{"CapabilitiesNameTheEngine", capabilities},
		{"ExitCodeIsReported", exitCode},
		{"WaitMayBeginBeforeStart", waitBeforeStart},
		{"WaitEndsWithItsContext", waitContext},
		{"StopEndsAProcess", stop},
		{"StopKillsAProcessThatIgnoresIt", stopDeaf},
		{"StopKillsWhenItsContextEnds", stopContext},
		{"RemoveEndsARunningContainer", removeRunning},
		{"RemoveIsLegalBeforeStart", removeBeforeStart},
		{"RemoveMayBeRepeated", removeTwice},
		{"OutputIsComplete", output},
		{"OutputCanBeOpened", openedOutput},
		{"EnvironmentIsPassed", environment},
		{"FunctionAnswersOnItsSocket", socket},
		{"MissingImageIsRefused", missingImage},
		{"MissingProgramIsTold", missingProgram},
		{"PresentImageIsEnsured", presentImage},
		{"ManyContainersAtOnce", many},
		{"AbandonedCreateLeavesNothing", abandonedCreate},
		{"CloseRemovesContainers", closeRemoves},
		{"ClosedDriverMakesNothing", closedDriver},
	})
	RunFreezing(t, newDriver, images)
}

// conformanceTest is one test of a driver.
type conformanceTest struct {
	name string
	run  func(s *suite)
}

func runAll(t *testing.T, newDriver func(t *testing.T) driver.Driver, images Images, tests []conformanceTest) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.run(&suite{T: t, images: images, newDriver: newDriver})
		})
	}
}

// suite is one test's view.
type suite struct {
	*testing.T
	images    Images
	newDriver func(t *testing.T) driver.Driver
}

// driver makes a driver that ends with the test.
func (s *suite) driver() driver.Driver {
	s.Helper()
	d := s.newDriver(s.T)
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), patience)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			s.Errorf("close: %v", err)
		}
	})
	return d
}

// spec is for a container that runs a command.
func (s *suite) spec(command ...string) *driver.Spec {
	return &driver.Spec{
		ID: "drivertest-" + model.NewID(), Image: s.images.Program, Command: command,
		Security: driver.Security{NoNetwork: true},
	}
}

func (s *suite) create(d driver.Driver, spec *driver.Spec) driver.Container {
	s.Helper()
	c, err := d.Create(s.Context(), spec)
	if err != nil {
		s.Fatalf("create: %v", err)
	}
	if c.ID() == "" {
		s.Error("the container has no identifier")
	}
	return c
}

func (s *suite) start(d driver.Driver, spec *driver.Spec) driver.Container {
	s.Helper()
	c := s.create(d, spec)
	s.must("start", c.Start(s.Context()))
	return c
}

// startDeaf starts a container that ignores SIGTERM, and waits until it does.
func (s *suite) startDeaf(d driver.Driver, change func(*driver.Spec)) driver.Container {
	s.Helper()
	spec := s.spec("deaf")
	if change != nil {
		change(spec)
	}
	var out lockedBuffer
	spec.Stdout = &out
	c := s.start(d, spec)
	for deadline := time.Now().Add(patience); out.String() == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatal("it says nothing")
		}
	}
	return c
}

func (s *suite) must(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// wait is for a container that must end.
func (s *suite) wait(c driver.Container) driver.Exit {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	exit, err := c.Wait(ctx)
	if err != nil {
		s.Fatalf("wait: %v", err)
	}
	return exit
}

// waiting is a Wait in the background.
func (s *suite) waiting(c driver.Container) <-chan result {
	ended := make(chan result, 1)
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), patience)
	wg.Go(func() {
		exit, err := c.Wait(ctx)
		ended <- result{exit, err}
	})
	s.Cleanup(func() { cancel(); wg.Wait() })
	return ended
}

type result struct {
	exit driver.Exit
	err  error
}

func capabilities(s *suite) {
	d := s.driver()
	if got := d.Capabilities(); got.Name == "" || got != d.Capabilities() {
		s.Errorf("capabilities %+v", got)
	}
}

// lockedBuffer is a buffer for output.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
