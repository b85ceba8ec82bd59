package image

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// CollectOptions says what a collection leaves.
type CollectOptions struct {
	// MaxBytes is what blobs and layers may take on disk together, each counted
	// once; zero leaves nothing but what must stay.
	MaxBytes int64
	// Least is how much to free at least, even if all takes less than MaxBytes.
	Least int64
	// Keep are images that stay, by references as [Store.Get] takes them.
	Keep []string
	// Exempt are images that stay and are not counted: neither are blobs and
	// layers that no other image has.
	Exempt []string
	// Spare keeps images that were used within that time, as who looked for one
	// may be about to lease it.
	Spare time.Duration
	// KeepPushed keeps images that no pull would bring back: with a tag in the
	// store's own registry, or with any tag if they came from an archive.
	KeepPushed bool
}

// Collected tells what a collection did.
type Collected struct {
	Images []Image // that were removed
	Freed  int64   // bytes on disk, also of what no image had
	Left   int64   // bytes on disk that blobs and layers take now, without those of exempt images

	Busy, Idle int   // images that are left: those that must stay, without exempt ones, and the others
	BusyBytes  int64 // of Left, what images that must stay take
}

// Collect removes the images that were not used for longest until the rest takes
// as little as it may. Leased images stay. Before that it removes what no image
// refers to and is older than Options.OrphanAge. More than MaxBytes may be left
// if what must stay takes more.
func (s *Store) Collect(ctx context.Context, opts CollectOptions) (Collected, error) {
	done, err := s.collect(ctx, opts)
	return done, errors.Join(err, s.emptyTrash())
}

func (s *Store) collect(ctx context.Context, opts CollectOptions) (Collected, error) {
	s.change.Lock()
	defer s.change.Unlock()
	var done Collected
	if err := s.alive(); err != nil {
		return done, err
	}
	paths, err := s.content(ctx)
	if err != nil {
		return done, err
	}
	if err := s.emptyQuarantine(); err != nil {
		return done, err
	}
	if done.Freed, err = s.removeOrphans(paths); err != nil {
		return done, err
	}
	sizes := map[string]int64{}
	for _, path := range paths {
		sizes[path] = s.bytesOf(path) // 0 for what is gone
	}
	idle := s.measure(&done, opts, sizes)
	for _, r := range idle {
		if done.Left <= opts.MaxBytes && done.Freed >= opts.Least {
			break
		}
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		image := s.describe(r)
		freed, err := s.discard([]*record{r})
		if err != nil {
			return done, err
		}
		s.mu.Lock()
		stayed := s.images[r.Target] != nil
		s.mu.Unlock()
		if stayed { // leased meanwhile
			continue
		}
		done.Images = append(done.Images, image)
		done.Freed += freed
		for _, path := range s.pathsOf(r) {
			if _, err := os.Lstat(path); err != nil {
				delete(sizes, path)
			}
		}
		s.measure(&done, opts, sizes)
	}
	return done, nil
}

// removeOrphans removes what no image refers to, is not announced by a push, and
// is old enough.
func (s *Store) removeOrphans(paths []string) (freed int64, err error) {
	s.mu.Lock()
	for digest, asked := range s.recent {
		if time.Since(asked) > s.opts.OrphanAge {
			delete(s.recent, digest)
		}
	}
	s.mu.Unlock()
	return s.removeUnused(paths, func(digest v1.Hash, path string) bool {
		info, err := os.Lstat(path)
		_, announced := s.recent[digest] // mu is held
		return err == nil && !announced && time.Since(info.ModTime()) > s.opts.OrphanAge
	})
}

// measure fills in what is there, and returns the images that may go, the first
// to go first.
func (s *Store) measure(done *Collected, opts CollectOptions, sizes map[string]int64) (idle []*record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep, exempt := s.targets(opts.Keep), s.targets(opts.Exempt)
	onlyExempt, busy := map[string]bool{}, map[string]bool{}
	done.Busy, done.Idle = 0, 0
	for target, r := range s.images {
		if exempt[target] {
			for _, path := range s.pathsOf(r) {
				onlyExempt[path] = true
			}
		}
	}
	for target, r := range s.images {
		if exempt[target] {
			continue
		}
		mustStay := s.leases[target] > 0 || keep[target] || opts.KeepPushed && s.isOnlyHere(r) ||
			opts.Spare > 0 && time.Since(time.Unix(0, r.lastUse.Load())) < opts.Spare
		for _, path := range s.pathsOf(r) {
			delete(onlyExempt, path)
			if mustStay {
				busy[path] = true
			}
		}
		if mustStay {
			done.Busy++
		} else {
			done.Idle++
			idle = append(idle, r)
		}
	}
	done.Left, done.BusyBytes = 0, 0
	for path, size := range sizes {
		if !onlyExempt[path] {
			done.Left += size
		}
		if busy[path] {
			done.BusyBytes += size
		}
	}
	slices.SortFunc(idle, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.lastUse.Load(), b.lastUse.Load()), cmp.Compare(a.Target.Hex, b.Target.Hex))
	})
	return idle
}

// isOnlyHere reports whether no pull would bring an image back. One that lost its
// last tag to another image is not asked for by a name that means it, so it may go.
// The caller holds mu.
func (s *Store) isOnlyHere(r *record) bool {
	for name, target := range s.names {
		if target == r.Target && isTagged(name) && (r.Loaded || strings.HasPrefix(name, OwnHost+"/")) {
			return true
		}
	}
	return false
}

// pathsOf are the blobs and layers of an image, each once.
func (s *Store) pathsOf(r *record) []string {
	var paths []string
	for _, b := range r.Blobs {
		paths = append(paths, s.blobPath(b.Digest))
	}
	for _, layer := range r.Layers {
		paths = append(paths, s.layerPath(layer.DiffID))
	}
	return paths
}

// targets are the images that references mean, all that have an identifier or
// digest among them. The caller holds mu.
func (s *Store) targets(refs []string) map[v1.Hash]bool {
	found := map[v1.Hash]bool{}
	for _, ref := range refs {
		if r, err := s.find(ref); err == nil {
			found[r.Target] = true
		}
		if digits := digitsOf(ref); digits != "" {
			for _, r := range s.images {
				if strings.HasPrefix(r.Config.Hex, digits) || strings.HasPrefix(r.Manifest.Hex, digits) || strings.HasPrefix(r.Target.Hex, digits) {
					found[r.Target] = true
				}
			}
		}
	}
	return found
}

// quarantineAge is how long what was damaged is kept for who wants to look.
const quarantineAge = 7 * 24 * time.Hour

func (s *Store) emptyQuarantine() error {
	entries, err := os.ReadDir(s.path(quarantineDir))
	for _, entry := range entries {
		// The name begins with when it was put there: the file itself is older.
		at, _, _ := strings.Cut(entry.Name(), "-")
		if nanoseconds, parseErr := strconv.ParseInt(at, 10, 64); parseErr == nil && time.Since(time.Unix(0, nanoseconds)) > quarantineAge {
			err = errors.Join(err, os.RemoveAll(s.path(quarantineDir, entry.Name())))
		}
	}
	return err
}
