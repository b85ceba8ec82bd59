package placement

import (
	"log/slog"
	"time"
)

// Options configures a [Placer]. Zero values get the defaults.
type Options struct {
	Pool     Pool
	Policy   Policy       // nil: NewChoices
	Logger   *slog.Logger // nil: no logs
	Observer Observer     // nil: none

	// How long runners are tried for one call. They bound the beginning of
	// attempts: a call that was placed takes as long as it takes.
	Timeout         time.Duration
	DetachedTimeout time.Duration // likewise, of detached calls

	// DetachedHeadroom is what a detached call has from its beginning to its end,
	// beyond DetachedTimeout and its function's timeout: nobody waits for it, so
	// nobody else would end it. Negative: no limit.
	DetachedHeadroom time.Duration

	// After a sweep of all runners a call waits until one that this placer has
	// placed ends, or for the delay, which doubles from sweep to sweep.
	RetryDelay    time.Duration
	MaxRetryDelay time.Duration

	MaxBackoff time.Duration // for which a runner that fails is left alone, at most

	MaxKeptBody   int64 // bytes of a request that are kept for another attempt
	MaxKeptBodies int64 // of all calls together

	ProbeInterval time.Duration // negative: runners are not asked
	ProbeTimeout  time.Duration
}

// Defaults of the options. The timeouts, the headroom and the first delay are
// Fn's.
const (
	DefaultTimeout          = 360 * time.Second
	DefaultDetachedTimeout  = 30 * time.Second
	DefaultDetachedHeadroom = 360 * time.Second
	DefaultRetryDelay       = 10 * time.Millisecond
	DefaultMaxRetryDelay    = 250 * time.Millisecond
	DefaultMaxBackoff       = 10 * time.Second
	DefaultMaxKeptBody      = 1 << 20
	DefaultMaxKeptBodies    = 256 << 20
	DefaultProbeInterval    = time.Second
	DefaultProbeTimeout     = 3 * time.Second
)

func (o *Options) setDefaults() {
	for _, d := range []struct {
		field    *time.Duration
		fallback time.Duration
	}{
		{&o.Timeout, DefaultTimeout},
		{&o.DetachedTimeout, DefaultDetachedTimeout},
		{&o.DetachedHeadroom, DefaultDetachedHeadroom},
		{&o.RetryDelay, DefaultRetryDelay},
		{&o.MaxRetryDelay, DefaultMaxRetryDelay},
		{&o.MaxBackoff, DefaultMaxBackoff},
		{&o.ProbeInterval, DefaultProbeInterval},
		{&o.ProbeTimeout, DefaultProbeTimeout},
	} {
		if *d.field == 0 {
			*d.field = d.fallback
		}
	}
	if o.MaxKeptBody == 0 {
		o.MaxKeptBody = DefaultMaxKeptBody
	}
	if o.MaxKeptBodies == 0 {
		o.MaxKeptBodies = DefaultMaxKeptBodies
	}
	if o.Policy == nil {
		o.Policy = NewChoices()
	}
	if o.Observer == nil {
		o.Observer = blind{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}
