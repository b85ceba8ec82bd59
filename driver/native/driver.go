//go:build linux

// Package native runs containers without an engine: it keeps images itself
// (internal/image), makes sandboxes before they are needed, and starts a function
// in one of them within milliseconds.
//
// A sandbox is a child process in namespaces of its own, with its control group
// and its network, which waits for a job:
//
//	Create: image ─► sandbox of the pool, or a new one ─► Start: limits, root file
//	system, job ─► the function runs ─► Remove: kill, remove group and network
//
// Read driver.go for what there is, make.go for how a sandbox is made, start.go
// for how it becomes a function, and container.go for the rest of its life.
package native

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native/cgroup"
	"github.com/tinefn/tine/driver/native/network"
	"github.com/tinefn/tine/driver/native/sandbox"
	"github.com/tinefn/tine/driver/native/seccomp"
	"github.com/tinefn/tine/driver/prefork"
	"github.com/tinefn/tine/internal/image"
	"github.com/tinefn/tine/internal/imageaccess"
)

// Defaults of [Options].
const (
	DefaultPullTimeout = imageaccess.DefaultPullTimeout
	DefaultAskTimeout  = imageaccess.DefaultAskTimeout
	DefaultAccessTTL   = imageaccess.DefaultTTL
	DefaultMakeTimeout = 10 * time.Second // of one sandbox
	DefaultStopGrace   = time.Second      // between SIGTERM and SIGKILL
)

// Options configures a [Driver]. Dir is needed.
type Options struct {
	Dir string // where images and what containers need are kept; it belongs to one driver

	// Auth, if set, is the text of a Docker config.json with credentials for
	// registries. Otherwise they are those of the config.json in ConfigDir, which
	// is read for each pull, if it is there; empty: none.
	Auth      []byte
	ConfigDir string

	// AppAuthDir, if set, is a directory of files <tenant>.json in the form of
	// config.json, one for each tenant with credentials of its own. They are read
	// for each pull and come before the others; what they do not name, those say.
	AppAuthDir string

	// StateDir is where it is kept which images are private. Drivers for Docker may
	// share it. Empty: Dir.
	StateDir string

	// AccessTTL is how long it is believed that a tenant may use a private image,
	// default DefaultAccessTTL; negative: not at all.
	AccessTTL time.Duration

	// Engine is a Docker engine that images are taken over from which are only
	// there, as those that were just built; nil: none. Close closes it.
	Engine Engine

	Init     string   // program that sandboxes begin with; empty: the one that sandbox.FindInit finds
	InitArgs []string // its arguments, the name included

	Users           Users  // who the users in sandboxes are to the host
	FirstID, LastID uint32 // of the host, that sandboxes' users have; both 0: sandbox.DefaultFirstID and LastID

	Parent  string          // control group that those of sandboxes are in; empty: cgroup.DefaultParent
	Network network.Options // Instance and Logger are filled in

	Pool Pool

	// RegistryHosts are those by which clients know the driver's Registry, such as
	// 127.0.0.1:5050.
	RegistryHosts []string

	EnableVolumes bool // allow images that declare volumes

	// MaxImageBytes is what images may take on disk. Beyond it, and when the disk
	// is full, those that were not used for longest are removed; 0: no limit, and
	// none is removed. ExemptImages are not counted and never removed.
	MaxImageBytes int64
	ExemptImages  []string

	LoadFile string // archive of images that New imports; empty: none

	AskTimeout  time.Duration // of one question to a registry about an image that is there, default DefaultAskTimeout
	PullTimeout time.Duration // of one image, retries included
	PullRetries int           // of a pull that failed for a passing reason; 0: none
	MakeTimeout time.Duration
	Logger      *slog.Logger // nil: no logs
}

// Engine is what the driver needs of a Docker engine's client.
type Engine interface {
	ImageSave(ctx context.Context, images []string, options ...client.ImageSaveOption) (client.ImageSaveResult, error)
	ImageInspect(ctx context.Context, image string, options ...client.ImageInspectOption) (client.ImageInspectResult, error)
	Close() error
}

// Pool configures the pool of sandboxes.
type Pool struct {
	Min, Max int // as in prefork.Options, likewise below; Max 0: no pool
	MaxReady int
	AppShare int
	Short    func() (processors, memory bool)
	Observer prefork.Observer
}

// Driver implements [driver.Driver].
type Driver struct {
	opts     Options
	log      *slog.Logger
	instance string
	earlier  []string // instances that may have left something, see sweep.go
	starting bool     // the own one is on their list, and New has not succeeded

	images   *image.Store
	access   *imageaccess.Access
	spawner  *sandbox.Spawner
	groups   *cgroup.Manager
	networks *network.Manager
	filter   *os.File // the seccomp program of containers that are fenced in
	lax      *os.File // that of others
	base     *base
	ids      *sandbox.Range // nil: sandboxes have the host's users
	pool     *prefork.Pool  // nil: none
	lull     *prefork.Lull  // which the work of the pool waits for
	cleaner  *cleaner

	background context.Context // ends when Close begins
	cancel     context.CancelFunc
	wg         sync.WaitGroup // pulls

	mu         sync.Mutex // guards the rest
	closed     bool
	containers map[*container]struct{}
}

var _ driver.Driver = (*Driver)(nil)

// New opens the store of images and makes what sandboxes have in common. Close ends
// it. The error says what this machine lacks.
func New(opts Options) (_ *Driver, err error) {
	if opts.Dir == "" {
		return nil, errors.New("native driver: no directory for images is set")
	}
	opts = opts.withDefaults()
	if err := checkRights(); err != nil {
		return nil, fmt.Errorf("native driver: %w", err)
	}
	d := &Driver{
		opts: opts, log: opts.Logger, instance: randomInstance(),
		containers: map[*container]struct{}{}, lull: prefork.NewLull(lullRest, lullPatience),
	}
	d.background, d.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("native driver: %w", err), d.release(context.Background()))
		}
	}()
	if d.access, err = imageaccess.Open(imageaccess.Options{
		Registry: registries{d}, Auth: opts.Auth, ConfigDir: opts.ConfigDir, AppAuthDir: opts.AppAuthDir, StateDir: cmp.Or(opts.StateDir, opts.Dir),
		TTL: opts.AccessTTL, AskTimeout: opts.AskTimeout, PullTimeout: opts.PullTimeout, PullRetries: opts.PullRetries, Logger: d.log,
	}); err != nil {
		return nil, err
	}
	if err = d.openImages(); err != nil {
		return nil, err
	}
	for _, problem := range d.images.Problems() {
		d.log.Warn("a problem with the images on disk", slog.String("object", problem.Object), slog.String("cause", problem.Cause), slog.String("repair", problem.Repair))
	}
	if err = d.enlist(); err != nil {
		return nil, err
	}
	if err = d.openKernel(); err != nil {
		return nil, err
	}
	if err = d.sweep(d.background); err != nil {
		return nil, err
	}
	if d.base, err = makeBase(filepath.Join(opts.Dir, "base")); err != nil {
		return nil, err
	}
	if err = d.openUsers(d.background); err != nil {
		return nil, err
	}
	if opts.LoadFile != "" {
		if err = d.preload(opts.LoadFile); err != nil {
			return nil, err
		}
	}
	d.starting = false
	d.wg.Go(func() { d.cleaner.rounds.Run(d.background, d.cleaner.clean) })
	d.startPool()
	return d, nil
}

func (o Options) withDefaults() Options {
	if o.PullTimeout <= 0 {
		o.PullTimeout = DefaultPullTimeout
	}
	if o.MakeTimeout <= 0 {
		o.MakeTimeout = DefaultMakeTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FirstID == 0 && o.LastID == 0 {
		o.FirstID, o.LastID = sandbox.DefaultFirstID, sandbox.DefaultLastID
	}
	return o
}

func checkRights() error {
	if os.Geteuid() != 0 {
		return errors.New("it needs root: run the server as root, or set FN_DRIVER=docker")
	}
	return nil
}

// openImages opens the store of images.
func (d *Driver) openImages() (err error) {
	if d.cleaner, err = newCleaner(d); err != nil {
		return err
	}
	opts := image.Options{
		Logger: d.log, OwnHosts: d.opts.RegistryHosts, Setting: "FN_STATE_DIR", CleanSetting: "FN_IMAGE_CLEAN_MAX_SIZE", Stored: d.cleaner.rounds.Wake,
	}
	if d.opts.MaxImageBytes > 0 {
		opts.MakeRoom = d.cleaner.makeRoom
	}
	d.images, err = image.Open(filepath.Join(d.opts.Dir, "images"), opts)
	return err
}

// openKernel makes what the kernel has of sandboxes in common.
func (d *Driver) openKernel() error {
	for _, open := range []func() (string, error){d.openSpawner, d.openGroups, d.openNetworks} {
		if _, err := open(); err != nil {
			return err
		}
	}
	return d.openFilter()
}

// openSpawner finds the program that sandboxes begin with. Like the next ones it
// says in words what it opened.
func (d *Driver) openSpawner() (_ string, err error) {
	program, args := d.opts.Init, d.opts.InitArgs
	if program == "" {
		if program, args, err = sandbox.FindInit(); err != nil {
			return "", err
		}
	}
	d.spawner, err = sandbox.NewSpawner(program, args)
	return program, err
}

func (d *Driver) openGroups() (_ string, err error) {
	if d.groups, err = cgroup.Open(cgroup.Options{Parent: d.opts.Parent, Instance: d.instance, Logger: d.log}); err != nil {
		return "", err
	}
	return d.groups.Mode().String(), nil
}

func (d *Driver) openNetworks() (_ string, err error) {
	d.opts.Network.Instance, d.opts.Network.Logger = d.instance, d.log
	if d.networks, err = network.Open(d.opts.Network); err != nil {
		return "", err
	}
	return d.networks.String(), nil
}

func (d *Driver) openFilter() (err error) {
	if d.filter, err = makeFilter(seccomp.Options{}); err != nil {
		return err
	}
	d.lax, err = makeFilter(seccomp.Options{Capabilities: filteredCapabilities})
	return err
}

// filteredCapabilities are those of openCapabilities that a filter asks for.
var filteredCapabilities = []string{"CAP_SYS_CHROOT"}

func makeFilter(opts seccomp.Options) (*os.File, error) {
	code, err := seccomp.Default(opts)
	if err != nil {
		return nil, err
	}
	return code.Memfd()
}

func randomInstance() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // cannot fail
	return hex.EncodeToString(id[:])
}

// Capabilities are those of every machine on which New succeeds.
func (d *Driver) Capabilities() driver.Capabilities {
	return driver.Capabilities{Name: "native", Version: "1", Freeze: true, Pull: true, SocketFiles: true}
}

// ImportImages reads images from an archive, an OCI layout or what docker save
// writes.
func (d *Driver) ImportImages(ctx context.Context, archive io.Reader) error {
	_, err := d.images.Import(ctx, archive)
	return err
}

// PoolLevels returns how many sandboxes there are, nil without a pool.
func (d *Driver) PoolLevels() []prefork.Level {
	if d.pool == nil {
		return nil
	}
	return d.pool.Levels()
}

// errClosed is for calls after Close.
var errClosed = fmt.Errorf("%w: the driver is closed", driver.ErrUnavailable)

// remember takes note of a container, unless the driver is closed.
func (d *Driver) remember(c *container) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.containers[c] = struct{}{}
	return true
}

// begin takes part in what Close waits for; the caller calls d.wg.Done. It is false
// when the driver is closed.
func (d *Driver) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.wg.Add(1)
	return true
}

func (d *Driver) forget(c *container) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.containers, c)
}

// Close removes all containers and sandboxes, as far as ctx allows.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	left := slices.Collect(maps.Keys(d.containers))
	d.mu.Unlock()
	if d.pool != nil {
		d.pool.Stop()
	}
	d.cancel()
	d.wg.Wait()
	err := prefork.RemoveAll(left, func(c *container) error { return c.Remove(ctx) })
	if d.pool != nil {
		err = errors.Join(err, d.pool.Close(ctx))
	}
	return errors.Join(err, d.release(ctx))
}

// release gives up what New opened. The end of the spawner ends what is left.
func (d *Driver) release(ctx context.Context) error {
	d.cancel()
	var failed []error
	if d.spawner != nil {
		d.spawner.Close()
	}
	if d.groups != nil {
		failed = append(failed, d.groups.Close())
	}
	if d.networks != nil {
		failed = append(failed, d.networks.Close(ctx))
	}
	if d.starting && errors.Join(failed...) == nil {
		failed = append(failed, d.writeInstances(d.earlier)) // or starts that fail would fill the list
	}
	for _, filter := range []*os.File{d.filter, d.lax} {
		if filter != nil {
			failed = append(failed, filter.Close())
		}
	}
	if d.opts.Engine != nil {
		failed = append(failed, d.opts.Engine.Close())
	}
	if d.images != nil {
		failed = append(failed, d.images.Close())
	}
	return errors.Join(failed...)
}
