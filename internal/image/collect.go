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

// Collected tells what a collection did.
type Collected struct {
	Images []Image // that were removed
	Freed  int64   // bytes on disk, also of what no image had
	Left   int64   // bytes on disk that blobs and layers take now
}

// Collect removes the images that were not used for longest until blobs and
// layers together take at most maxBytes, each counted once; zero leaves
// nothing but what must stay. Leased images stay, and those that keep means, by
// references as [Store.Get] takes them. More than maxBytes may be left if those
// take more. Before that it removes what no image refers to and is older than
// Options.OrphanAge.
func (s *Store) Collect(ctx context.Context, maxBytes int64, keep ...string) (Collected, error) {
	done, err := s.collect(ctx, maxBytes, keep)
	return done, errors.Join(err, s.emptyTrash())
}

func (s *Store) collect(ctx context.Context, maxBytes int64, keep []string) (Collected, error) {
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
	s.mu.Lock()
	for digest, asked := range s.recent {
		if time.Since(asked) > s.opts.OrphanAge {
			delete(s.recent, digest)
		}
	}
	s.mu.Unlock()
	done.Freed, err = s.removeUnused(paths, func(digest v1.Hash, path string) bool {
		info, err := os.Lstat(path)
		_, announced := s.recent[digest] // mu is held
		return err == nil && !announced && time.Since(info.ModTime()) > s.opts.OrphanAge
	})
	if err != nil {
		return done, err
	}
	sizes := map[string]int64{}
	for _, path := range paths {
		sizes[path] = s.bytesOf(path) // 0 for what is gone
		done.Left += sizes[path]
	}
	for _, r := range s.oldest(keep) {
		if done.Left <= maxBytes {
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
		done.Left -= freed
	}
	return done, nil
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

// oldest returns the images that may be collected, the first to go first.
func (s *Store) oldest(keep []string) []*record {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := map[v1.Hash]bool{}
	for _, ref := range keep {
		if r, err := s.find(ref); err == nil {
			kept[r.Target] = true
		}
	}
	var candidates []*record
	for _, r := range s.images {
		if s.leases[r.Target] == 0 && !kept[r.Target] {
			candidates = append(candidates, r)
		}
	}
	slices.SortFunc(candidates, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.lastUse.Load(), b.lastUse.Load()), cmp.Compare(a.Target.Hex, b.Target.Hex))
	})
	return candidates
}
