package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Names below a store's directory.
const (
	lockName      = "lock"
	formatName    = "format"
	tmpDir        = "tmp"
	removedDir    = "removed"
	blobsDir      = "blobs"
	layersDir     = "layers"
	imagesDir     = "images"
	namesName     = "names.json"
	quarantineDir = "quarantine"

	// format is the version of the layout. A store of another one is refused.
	format = "1\n"
)

// Store keeps images in a directory. It is safe for concurrent use.
//
// Two locks order its work. Whoever changes which images there are, or which
// names they have, holds change, and may wait for the disk with it. Memory is
// guarded by mu, with which nobody waits, so that a start never waits for a
// pull's disk.
type Store struct {
	dir  string
	opts Options
	log  *slog.Logger
	lock *os.File

	// Hosts of names that mean OwnHost, and that did before; set by Open.
	ownHosts, formerHosts map[string]bool

	change sync.Mutex

	mu      sync.Mutex
	closing bool // no pull begins any more
	closed  bool
	images  map[v1.Hash]*record   // by target
	names   map[string]v1.Hash    // normalized name -> target
	leases  map[v1.Hash]int       // by target
	doomed  map[v1.Hash]bool      // removed while leased: they go with their last lease
	pins    map[v1.Hash]int       // blobs and layers that work in progress needs
	trash   []string              // paths below removed/
	removed int                   // makes names below removed/
	recent  map[v1.Hash]time.Time // blobs that a push announced or brought, without its manifest
	flights map[string]*flight    // pulls, by what is pulled and as whom

	pulling  sync.WaitGroup
	work     keyedLock // one worker for each blob and layer
	problems []Problem // found by Open

	// unpacking has room for Options.Parallel layers, of whatever images: each takes
	// the memory that its packer chose, up to zstdWindow. Whoever has a place in it
	// waits for nothing but the disk.
	unpacking chan struct{}

	fault func(step string) error // for tests: called between changes of the disk
}

// Open takes a store's directory, which it makes if it does not exist. It
// removes what a crashed process left half written; what is missing or damaged
// is told by [Store.Problems] and repaired by the next pull.
func Open(dir string, opts Options) (*Store, error) {
	return open(dir, opts, nil)
}

func open(dir string, opts Options, fault func(string) error) (_ *Store, err error) {
	opts = opts.withDefaults()
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, opts: opts, log: opts.Logger, fault: fault,
		images: map[v1.Hash]*record{}, names: map[string]v1.Hash{}, leases: map[v1.Hash]int{},
		doomed: map[v1.Hash]bool{}, pins: map[v1.Hash]int{}, recent: map[v1.Hash]time.Time{},
		flights: map[string]*flight{}, unpacking: make(chan struct{}, opts.Parallel),
	}
	// Others have no business in it: layers have the files of images as they
	// are, with owners and modes that mean something inside a container only.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, s.unusable(err)
	}
	if s.lock, err = lockDir(dir); err != nil {
		return nil, s.unusable(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	if err := s.prepare(); err != nil {
		return nil, s.unusable(err)
	}
	if err := s.loadOwnHosts(); err != nil {
		return nil, s.unusable(err)
	}
	if err := s.load(); err != nil {
		return nil, s.unusable(err)
	}
	s.dropRemoved()
	for _, p := range s.problems {
		s.log.Warn("problem in the image store", "object", p.Object, "cause", p.Cause, "repair", p.Repair)
	}
	return s, nil
}

func (s *Store) unusable(err error) error {
	return fmt.Errorf("image store %s cannot be used, set %s to a directory that can: %w", s.dir, s.opts.Setting, s.noSpace(err))
}

// prepare empties tmp and makes what is not there.
func (s *Store) prepare() error {
	if err := errors.Join(os.RemoveAll(s.path(tmpDir)), os.RemoveAll(s.path(removedDir))); err != nil {
		return fmt.Errorf("remove what an earlier process left half written: %w", err)
	}
	for _, name := range []string{
		tmpDir, removedDir, quarantineDir,
		filepath.Join(blobsDir, algorithm), filepath.Join(layersDir, algorithm), filepath.Join(imagesDir, algorithm),
	} {
		if err := os.MkdirAll(s.path(name), 0o700); err != nil {
			return err
		}
	}
	found, err := os.ReadFile(s.path(formatName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.writeFile(s.path(formatName), []byte(format))
	case err != nil:
		return err
	case !bytes.Equal(found, []byte(format)):
		return fmt.Errorf("its format is %q, this version knows %q only: remove the directory's content, images are pulled again", strings.TrimSpace(string(found)), strings.TrimSpace(format))
	}
	return nil
}

// Close ends pulls and gives the directory up. Other work must have ended;
// leases become meaningless.
func (s *Store) Close() error {
	s.endFlights()
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.lock.Close()
}

// Dir is the store's directory.
func (s *Store) Dir() string { return s.dir }

// Platform is what images must be for to run here.
func (s *Store) Platform() v1.Platform { return s.opts.Platform }

// Limits are those that hold, with their defaults.
func (s *Store) Limits() Limits { return s.opts.Limits }

// Problems is what Open found to be missing or damaged.
func (s *Store) Problems() []Problem { return s.problems }

func (s *Store) path(elements ...string) string {
	return filepath.Join(append([]string{s.dir}, elements...)...)
}

func (s *Store) alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return nil
}

// pin keeps blobs and layers from being collected until the result is called.
func (s *Store) pin(digests ...v1.Hash) (unpin func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, digest := range digests {
		s.pins[digest]++
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, digest := range digests {
			if s.pins[digest]--; s.pins[digest] == 0 {
				delete(s.pins, digest)
			}
		}
	})
}

// lockDir holds the directory until the file is closed or the process ends.
func lockDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w: end the process that has %s open", ErrLocked, file.Name())
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// keyedLock is one lock for each key. The zero value works.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// acquire waits for a key's lock. The caller calls unlock once.
func (k *keyedLock) acquire(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		wait, taken := k.held[key]
		if !taken {
			if k.held == nil {
				k.held = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			k.held[key] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, key)
				k.mu.Unlock()
				close(mine)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
