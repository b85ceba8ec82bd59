// Package docker drives a Docker Engine, or what answers like one, through its
// HTTP API: versions from 1.41 (Docker 20.10) to the current one.
//
// The driver keeps no copy of the engine's state: it remembers which
// containers it made, so that Close can remove them, and nothing else. Every
// request has a deadline of its own. Read container.go first.
package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/prefork"
	"github.com/tinefn/tine/internal/imageaccess"
)

// Defaults of [Options].
const (
	DefaultHost        = client.DefaultDockerHost
	DefaultCallTimeout = 30 * time.Second
	DefaultPullTimeout = imageaccess.DefaultPullTimeout
	DefaultAccessTTL   = imageaccess.DefaultTTL
	DefaultMaxStarts   = 16
)

// Options configures a [Driver]. The zero value is usable.
type Options struct {
	Host      string // as in DOCKER_HOST; empty: DefaultHost
	CertPath  string // directory of ca.pem, cert.pem and key.pem; empty: no TLS
	TLSVerify bool   // verify the engine's certificate

	// Auth, if set, is the text of a Docker config.json with credentials for
	// registries. Otherwise they are those of the config.json in ConfigDir, which
	// is read for each pull, if it is there; empty: none.
	Auth      []byte
	ConfigDir string

	// AppAuthDir, if set, is a directory of files <tenant>.json in the form of
	// config.json, one for each tenant with credentials of its own. They are read
	// for each pull and come before the others; what they do not name, those say.
	AppAuthDir string

	// AccessTTL is how long it is believed that a tenant may use a private image,
	// default DefaultAccessTTL; negative: not at all.
	AccessTTL time.Duration

	Logger      *slog.Logger  // nil: no logs
	CallTimeout time.Duration // of one request to the engine, default DefaultCallTimeout
	PullTimeout time.Duration // of one image, retries included, default DefaultPullTimeout
	PullRetries int           // of a pull that failed for a passing reason; 0: none

	// MaxStarts bounds the starts of containers that are under way, default
	// DefaultMaxStarts.
	MaxStarts int

	// Networks are the networks to spread containers over; empty: the engine's
	// default network. One Linux bridge holds about a thousand containers.
	Networks []string

	// StateDir is where drivers keep what they know for the next process, made when
	// it is needed: which images are private, and which containers are whose. With
	// it, New starts to remove the containers of drivers that had the same
	// directory and whose process is dead, see Sweep. Several may share it.
	StateDir string // empty: nothing is kept

	// LabelTag, if set, marks all containers as made by this group of drivers.
	// What others of the group made is removed, see Sweep.
	LabelTag string

	// Runtime is the OCI runtime of containers whose spec names none; empty: the
	// engine's default. New fails if the engine does not know it, and warns of
	// those of Runtimes, which specs will name.
	Runtime  string
	Runtimes []string

	Prefork Prefork // the pool of network namespaces

	EnableVolumes bool // allow images that declare volumes

	LoadFile string // archive of images, as docker save writes it, to load at start; empty: none

	// MaxImageBytes, if positive, is how much images may take. Beyond it, those
	// that were not used for longest are removed, but none in use. Images in
	// ExemptImages are not counted and never removed: names, with a tag or a
	// digest, or identifiers.
	MaxImageBytes int64
	ExemptImages  []string
	cleanOnly     func(names []string) bool // for tests, see cleaner

	// Observe, if set, is told of each request to the engine, by Fn's name for
	// it. It must return at once.
	Observe func(api string, took time.Duration, err error)

	// Retried, if set, is told of each request that is made again, likewise.
	Retried func(api string)
}

// Driver implements [driver.Driver] on a Docker Engine.
type Driver struct {
	engine        *timed
	opts          Options
	log           *slog.Logger
	capabilities  driver.Capabilities
	access        *imageaccess.Access
	cleaner       *cleaner // nil: off
	networks      networks
	prefork       *prefork.Pool // nil: none
	starts        *starts
	cgroups       cgroups
	architecture  string // of the engine's processors, as it calls them
	linux         bool   // the engine runs on it
	engineRuntime string // of containers that ask for none
	warnDisk      sync.Once

	instance string      // own.id, for labels
	own      *identity   // whose containers are this driver's
	dead     []*identity // of other processes, until their containers are gone
	mayLeave atomic.Bool // a container may outlive Close

	// Work that outlives its caller: pulls, sweeping and cleaning end when Close
	// begins, creation when Close has no more time.
	background, creation             context.Context
	cancelBackground, cancelCreation context.CancelCauseFunc
	wg                               sync.WaitGroup

	mu         sync.Mutex // guards the rest
	closed     bool
	containers map[*engineContainer]struct{} // made and not yet removed
}

var _ driver.Driver = (*Driver)(nil)

// New connects to the engine and makes sure that it answers. With a StateDir
// or a LabelTag it removes leftovers in the background. Close ends the driver.
func New(ctx context.Context, opts Options) (*Driver, error) {
	opts = opts.withDefaults()
	d := &Driver{opts: opts, log: opts.Logger, starts: newStarts(opts.MaxStarts), containers: map[*engineContainer]struct{}{}}
	var err error
	if d.access, err = imageaccess.Open(imageaccess.Options{
		Registry: registries{d}, Auth: opts.Auth, ConfigDir: opts.ConfigDir, AppAuthDir: opts.AppAuthDir, StateDir: opts.StateDir,
		TTL: opts.AccessTTL, AskTimeout: opts.CallTimeout, PullTimeout: opts.PullTimeout, PullRetries: opts.PullRetries,
		Retried: func() { opts.Retried(pullAPI) }, Logger: d.log,
	}); err != nil {
		return nil, err
	}
	if d.cleaner, err = newCleaner(d); err != nil {
		return nil, err
	}
	engine, err := Connect(opts)
	if err != nil {
		return nil, err
	}
	d.engine = &timed{engine, opts.Observe}
	d.networks.names = opts.Networks
	d.networks.use = make([]int, len(opts.Networks))
	if d.capabilities, err = d.probe(ctx); err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	if opts.LoadFile != "" {
		if err := d.preload(ctx, opts.LoadFile); err != nil {
			return nil, errors.Join(err, engine.Close())
		}
	}
	d.background, d.cancelBackground = context.WithCancelCause(context.Background())
	d.creation, d.cancelCreation = context.WithCancelCause(context.Background())
	if d.own, err = newIdentity(opts.StateDir); err != nil {
		d.log.Warn("what this server leaves on the engine, if it is killed, will not be removed at its next start; set FN_STATE_DIR to a directory that it can write",
			slog.String("path", opts.StateDir), slog.Any("error", err))
	}
	d.instance = d.own.id
	d.startSweep()
	d.startPrefork()
	if cleaner := d.cleaner; cleaner != nil {
		d.wg.Go(func() { cleaner.rounds.Run(d.background, cleaner.clean) })
	}
	return d, nil
}

func (o Options) withDefaults() Options {
	if o.Host == "" {
		o.Host = DefaultHost
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = DefaultCallTimeout
	}
	if o.PullTimeout <= 0 {
		o.PullTimeout = DefaultPullTimeout
	}
	if o.MaxStarts <= 0 {
		o.MaxStarts = DefaultMaxStarts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(string, time.Duration, error) {}
	}
	if o.Retried == nil {
		o.Retried = func(string) {}
	}
	return o
}

// InstanceID is what the containers of this driver carry as the label
// tine.instance. No other driver has it, before or after.
func (d *Driver) InstanceID() string { return d.instance }

// probe asks the engine for a sign of life and for what it can do.
func (d *Driver) probe(ctx context.Context) (driver.Capabilities, error) {
	callCtx, cancel := d.deadline(ctx)
	defer cancel()
	ping, err := d.engine.Ping(callCtx, client.PingOptions{NegotiateAPIVersion: true})
	if err := d.checkVersion(ping.APIVersion); err != nil {
		return driver.Capabilities{}, err
	}
	if err != nil {
		return driver.Capabilities{}, d.explain(callCtx, ctx, err)
	}
	info, err := d.engine.Info(callCtx, client.InfoOptions{})
	if refused := d.explainRefusal(ping.APIVersion, err); refused != nil {
		return driver.Capabilities{}, refused
	}
	if err != nil {
		return driver.Capabilities{}, d.explain(callCtx, ctx, err)
	}
	for _, warning := range info.Info.Warnings {
		d.log.Info("container engine warns", slog.String("warning", warning))
	}
	d.architecture, d.linux, d.engineRuntime = info.Info.Architecture, info.Info.OSType == "linux", info.Info.DefaultRuntime
	if err := d.checkRuntimes(info.Info); err != nil {
		return driver.Capabilities{}, err
	}
	return driver.Capabilities{
		Name: "docker", Version: info.Info.ServerVersion, Pull: true,
		// Without control groups, as in some set-ups without root, nothing can
		// be frozen.
		Freeze: info.Info.CgroupDriver != "none",
	}, nil
}

// Capabilities says what the engine could do when New asked it.
func (d *Driver) Capabilities() driver.Capabilities { return d.capabilities }

// Close removes the containers that the driver made and that still exist, as
// far as ctx allows.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	if d.prefork != nil {
		d.prefork.Stop()
	}
	d.cancelBackground(errClosed)
	stop := context.AfterFunc(ctx, func() { d.cancelCreation(errClosed) })
	d.wg.Wait()
	stop()
	d.cancelCreation(errClosed)

	d.mu.Lock()
	left := slices.Collect(maps.Keys(d.containers))
	d.mu.Unlock()
	err := prefork.RemoveAll(left, func(c *engineContainer) error { return c.Remove(ctx) })
	if d.prefork != nil { // no container is left in what it removes
		err = errors.Join(err, d.prefork.Close(ctx))
	}
	if err != nil {
		err = fmt.Errorf("close container engine: %w", err)
	}
	return errors.Join(err, d.closeIdentities(err == nil && !d.mayLeave.Load()), d.engine.Close())
}

// closeIdentities gives up the locks. What may have containers left is for the
// next start.
func (d *Driver) closeIdentities(clean bool) error {
	var failed []error
	for _, i := range d.dead {
		failed = append(failed, i.release())
	}
	if clean {
		failed = append(failed, d.own.discard())
	} else {
		failed = append(failed, d.own.release())
	}
	return errors.Join(failed...)
}

// remember takes note of a container, unless the driver is closed.
func (d *Driver) remember(c *engineContainer) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.containers[c] = struct{}{}
	return true
}

func (d *Driver) forget(c *engineContainer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.containers[c]; ok {
		delete(d.containers, c)
		d.disconnect(c.takeConnectionLocked())
		d.cleaner.release(imageOf(c.spec))
	}
}

// begin takes part in what Close waits for; the caller calls d.wg.Done. It is
// false when the driver is closed.
func (d *Driver) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.wg.Add(1)
	return true
}

// errClosed is for calls after Close.
var errClosed = fmt.Errorf("%w: the driver is closed", driver.ErrUnavailable)
