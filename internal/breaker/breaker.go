// Package breaker keeps a server from waiting again and again for a container
// engine that does not answer. It wraps a driver: after some requests in a row
// that ended without an answer, others are refused at once, until one that is
// let through now and then gets an answer.
//
//	closed ── failures in a row ──► open ── pause over, next request ──► trying
//	   ▲                             ▲                                     │
//	   │                             └────────────── no answer ────────────┤
//	   └─────────────────────────────────────────────── answer ────────────┘
//
// A try that takes longer than the longest pause, as a pull may, does not keep
// others from trying.
//
// Only what makes new containers is refused. What ends or thaws one, or waits
// for its end, is never: it is needed just then, and need not wait for the
// engine in all cases.
package breaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/model"
)

// Options configures a [Driver]. Zero values get the defaults.
type Options struct {
	Failures int           // requests in a row without an answer
	MaxPause time.Duration // longest time for which requests are refused
	Logger   *slog.Logger  // nil: no logs
}

// Defaults of the options. The first pause is FirstPause; each one after a vain
// try is twice as long.
const (
	DefaultFailures = 3
	DefaultMaxPause = 30 * time.Second
	FirstPause      = time.Second
)

// Driver is a driver with a breaker before it. It is safe for concurrent use.
type Driver struct {
	driver.Driver
	opts Options

	mu       sync.Mutex // guards the rest
	failures int        // in a row
	pause    time.Duration
	until    time.Time // refuse until then; zero: closed
	decided  time.Time // when the request that decides has ended or, as a pull may take minutes, no longer counts
}

var _ driver.Driver = (*Driver)(nil)

// New wraps a driver.
func New(d driver.Driver, opts Options) *Driver {
	if opts.Failures <= 0 {
		opts.Failures = DefaultFailures
	}
	if opts.MaxPause <= 0 {
		opts.MaxPause = DefaultMaxPause
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Driver{Driver: d, opts: opts}
}

// Open reports whether requests are being refused.
func (d *Driver) Open() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.until.IsZero()
}

// EnsureImage passes on what the engine says, or refuses.
func (d *Driver) EnsureImage(ctx context.Context, want driver.ImageRequest) (driver.Image, error) {
	var image driver.Image
	err := d.guard("image "+want.Name, func() (err error) {
		image, err = d.Driver.EnsureImage(ctx, want)
		return err
	})
	return image, err
}

// Create makes a container whose start is guarded too, or refuses.
func (d *Driver) Create(ctx context.Context, spec *driver.Spec) (driver.Container, error) {
	var made driver.Container
	err := d.guard("create container "+spec.ID, func() (err error) {
		made, err = d.Driver.Create(ctx, spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &container{made, d}, nil
}

// container is one of a guarded driver.
type container struct {
	driver.Container
	driver *Driver
}

func (c *container) Start(ctx context.Context) error {
	return c.driver.guard("start container "+c.ID(), func() error { return c.Container.Start(ctx) })
}

// Remove is not refused, but tells whether the engine answers.
func (c *container) Remove(ctx context.Context) error {
	err := c.Container.Remove(ctx)
	c.driver.observe(err, false)
	return err
}

// HeldMemory is what the driver says, which need not ask the engine.
func (c *container) HeldMemory() (int64, error) { return driver.HeldMemory(c.Container) }

// guard makes a request unless requests are being refused.
func (d *Driver) guard(what string, request func() error) error {
	trial, err := d.admit(what)
	if err != nil {
		return err
	}
	err = request()
	d.observe(err, trial)
	return err
}

// admit reports whether a request is the one that decides, or refuses it.
func (d *Driver) admit(what string) (trial bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.until.IsZero() {
		return false, nil
	}
	left := time.Until(d.until)
	if left > 0 || time.Now().Before(d.decided) {
		refusal := fmt.Errorf("%s: %w: it did not answer %d requests in a row and is left alone for a while", what, driver.ErrUnavailable, d.failures)
		return false, model.WithRetryAfter(refusal, max(left, FirstPause))
	}
	d.decided = time.Now().Add(d.opts.MaxPause)
	return true, nil
}

// observe takes note of how a request ended.
func (d *Driver) observe(err error, trial bool) {
	answered := !errors.Is(err, driver.ErrUnavailable)
	abandoned := errors.Is(err, context.Canceled) // by who asked: it says nothing
	d.mu.Lock()
	defer d.mu.Unlock()
	if trial {
		d.decided = time.Time{}
	}
	switch {
	case abandoned:
	case answered && d.until.IsZero():
		d.failures = 0
	case answered:
		d.opts.Logger.Info("the container engine answers again")
		d.failures, d.pause, d.until = 0, 0, time.Time{}
	case d.until.IsZero() || trial:
		d.failures++
		if d.failures < d.opts.Failures {
			return
		}
		d.pause = min(max(2*d.pause, FirstPause), d.opts.MaxPause)
		d.until = time.Now().Add(d.pause)
		d.opts.Logger.Error("the container engine does not answer; calls that need a new container are refused",
			slog.Int("requests_without_answer", d.failures), slog.Duration("retry_in", d.pause), slog.Any("error", err))
	}
}
