package drivertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tinefn/tine/driver"
)

// The tests of this file are about the driver and its containers as a whole.

func missingImage(s *suite) {
	d := s.driver()
	if _, err := d.EnsureImage(s.Context(), driver.ImageRequest{Name: s.images.Missing}); err == nil {
		s.Error("a missing image was ensured")
	}
	spec := s.spec("sleep")
	spec.Image = s.images.Missing
	if c, err := d.Create(s.Context(), spec); !errors.Is(err, driver.ErrImageNotFound) {
		s.Errorf("create: %v, %v", c, err)
	}
}

func presentImage(s *suite) {
	d := s.driver()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := d.EnsureImage(s.Context(), driver.ImageRequest{Name: s.images.Program}); err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
}

func many(s *suite) {
	const containers, atOnce = 12, 4
	d := s.driver()
	codes := make(chan int, containers)
	for code := range containers {
		codes <- code
	}
	close(codes)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for code := range codes {
				if err := oneOfMany(s, d, code); err != nil {
					s.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func oneOfMany(s *suite, d driver.Driver, code int) error {
	c, err := d.Create(s.Context(), s.spec("exit", fmt.Sprint(code)))
	if err != nil {
		return err
	}
	if err := c.Start(s.Context()); err != nil {
		return errors.Join(err, c.Remove(s.Context()))
	}
	exit, err := c.Wait(s.Context())
	if err == nil && exit.Code != code {
		err = fmt.Errorf("exit code %d, want %d", exit.Code, code)
	}
	return errors.Join(err, c.Remove(s.Context()))
}

// createAgain succeeds when no container has the spec's name any more.
func createAgain(s *suite, d driver.Driver, spec *driver.Spec) {
	s.Helper()
	deadline := time.Now().Add(patience)
	for {
		c, err := d.Create(s.Context(), spec)
		if err == nil {
			s.must("remove", c.Remove(s.Context()))
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("something is left: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func abandonedCreate(s *suite) {
	d := s.driver()
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	spec := s.spec("sleep")
	if c, err := d.Create(ctx, spec); err == nil {
		s.must("remove", c.Remove(s.Context())) // it was quicker
	} else if !errors.Is(err, context.Canceled) {
		s.Errorf("create: %v", err)
	}
	createAgain(s, d, spec)
}

func closeRemoves(s *suite) {
	d := s.newDriver(s.T)
	running, created := s.spec("deaf"), s.spec("deaf")
	c := s.start(d, running)
	ended := s.waiting(c)
	s.create(d, created)
	s.must("close", d.Close(s.Context()))
	<-ended
	other := s.driver()
	createAgain(s, other, running)
	createAgain(s, other, created)
}

func closedDriver(s *suite) {
	d := s.newDriver(s.T)
	s.must("close", d.Close(s.Context()))
	if c, err := d.Create(s.Context(), s.spec("sleep")); err == nil {
		s.Errorf("created %v", c)
	}
	if _, err := d.EnsureImage(s.Context(), driver.ImageRequest{Name: s.images.Program}); err == nil {
		s.Error("ensured an image")
	}
}
