package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Lease keeps an image on disk while containers run from it.
type Lease struct {
	ID       v1.Hash // digest of the image's config
	Manifest v1.Hash
	// Layers are absolute paths in the order of overlayfs's option lowerdir: the
	// topmost first. They must not be written to.
	Layers []string
	// Config has of the image's what containers need: its platform, and of its
	// Config Env, Entrypoint, Cmd, WorkingDir, User and Volumes. It is shared and
	// must not be changed.
	Config *v1.ConfigFile

	release func()
}

// Acquire leases an image, which stays as it is until Release. References are
// those of [Store.Get]. It waits for no pull: a start takes this way.
func (s *Store) Acquire(ref string) (*Lease, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	r, err := s.find(ref)
	if err == nil && !r.runs() {
		err = fmt.Errorf("%w: %s has no image for %s: push one", ErrNotFound, ref, s.opts.Platform)
	}
	if err == nil {
		s.leases[r.Target]++
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	lease := &Lease{ID: r.Config, Manifest: r.Manifest, release: sync.OnceFunc(func() { s.unlease(r) })}
	if err := s.fill(lease, r); err != nil {
		lease.Release()
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	s.touch(r)
	return lease, nil
}

func (s *Store) fill(lease *Lease, r *record) error {
	for _, layer := range slices.Backward(r.Layers) {
		tree := filepath.Join(s.layerPath(layer.DiffID), layerTree)
		if _, err := os.Lstat(tree); err != nil {
			return fmt.Errorf("%w: layer %s: %w: pull the image again", ErrDamaged, layer.DiffID, err)
		}
		lease.Layers = append(lease.Layers, tree)
	}
	config := r.needed.Load()
	if config == nil {
		content, err := s.readBlob(r.Config, s.opts.Limits.ConfigBytes)
		if errors.Is(err, ErrLimit) { // a pull would not change that
			return fmt.Errorf("its config: %w", err)
		}
		if err != nil {
			return fmt.Errorf("%w: its config: %w: pull the image again", ErrDamaged, err)
		}
		whole, err := parseConfig(content, s.opts.Limits)
		if err != nil {
			return err
		}
		config = neededOf(whole)
		r.needed.Store(config)
	}
	lease.Config = config
	return nil
}

// neededOf is what containers need of a config. It stays in memory as long as the
// image is stored, and the rest can take many times its size there: the history
// does, which is bounded by the bytes of the config alone.
func neededOf(config *v1.ConfigFile) *v1.ConfigFile {
	says := config.Config
	return &v1.ConfigFile{
		OS: config.OS, Architecture: config.Architecture, Variant: config.Variant,
		Config: v1.Config{
			// Clones, as what was parsed has room for more.
			Env: slices.Clone(says.Env), Entrypoint: slices.Clone(says.Entrypoint), Cmd: slices.Clone(says.Cmd),
			WorkingDir: says.WorkingDir, User: says.User, Volumes: says.Volumes,
		},
	}
}

// Release ends the lease. It may be repeated.
func (l *Lease) Release() { l.release() }

func (s *Store) unlease(r *record) {
	s.mu.Lock()
	s.leases[r.Target]--
	last := s.leases[r.Target] == 0
	if last {
		delete(s.leases, r.Target)
	}
	remove := last && s.doomed[r.Target] && !s.closed
	s.mu.Unlock()
	if !remove {
		return
	}
	if err := s.drop(r.Target); err != nil {
		s.log.Warn("image that was removed while it was in use stays on disk until the next collection", "image", r.Target.String(), "error", err)
	}
}
