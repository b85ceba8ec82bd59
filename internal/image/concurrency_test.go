package image

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// What unpacking a layer takes of memory is the packer's choice.
func TestLayersOfAllPullsAreUnpackedAFewAtATime(t *testing.T) {
	needRoot(t)
	const parallel = 2
	var mu sync.Mutex
	active, most := 0, 0
	count := func(change int) {
		mu.Lock()
		defer mu.Unlock()
		active += change
		most = max(most, active)
	}
	s, err := open(t.TempDir(), Options{Parallel: parallel}, func(step string) error {
		if step == "layer unpacked" {
			count(1)
			time.Sleep(20 * time.Millisecond) // so that all meet here who may
			count(-1)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	registry := newRegistry(t)
	var wg sync.WaitGroup
	for i := range 4 {
		ref := registry.push(t, small(t, fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i)), fmt.Sprintf("fn/%d:1", i))
		wg.Go(func() {
			var last Progress
			if _, err := s.Pull(t.Context(), ref, PullOptions{Progress: func(p Progress) { last = p }}); err != nil || last.LayersDone != 3 {
				t.Errorf("%+v %v", last, err)
			}
		})
	}
	wg.Wait()
	if most != parallel {
		t.Errorf("%d layers at a time", most)
	}
}

func TestPullThatWaitsToUnpackEndsWithItsCaller(t *testing.T) {
	registry := newRegistry(t)
	ref := registry.push(t, small(t, "1"), "fn/a:1")
	s := newStore(t, Options{Parallel: 1})
	s.unpacking <- struct{}{} // another pull's layer
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Pull(ctx, ref, PullOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	s.pulling.Wait()
	checkTmp(t, s)
	<-s.unpacking
	mustPull(t, s, ref)
}

// Whatever happens at one time, who has a lease has all layers, and what is
// left at the end is whole.
func TestAllAtOnce(t *testing.T) {
	registry := newRegistry(t)
	s := newStore(t, Options{OrphanAge: time.Millisecond})
	shared := layerOf(t, pack(t, regular("shared", "x")))
	var refs []string
	for i := range 4 {
		made := imageOf(t, shared, layerOf(t, pack(t, regular("own", fmt.Sprint(i)))))
		refs = append(refs, registry.push(t, made, fmt.Sprintf("fn/%d:1", i)))
	}
	end := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for time.Now().Before(end) {
				i := rand.IntN(len(refs))
				if _, err := s.Pull(t.Context(), refs[i], PullOptions{}); err != nil {
					t.Errorf("pull: %v", err)
					return
				}
				lease, err := s.Acquire(refs[i])
				if errors.Is(err, ErrNotFound) {
					continue // removed already
				}
				if err != nil {
					t.Errorf("acquire: %v", err)
					return
				}
				for range 5 {
					if contents(t, lease, "own") != fmt.Sprint(i) || contents(t, lease, "shared") != "x" {
						t.Errorf("image %d has other content", i)
					}
				}
				lease.Release()
			}
		})
	}
	wg.Go(func() {
		for time.Now().Before(end) {
			if _, err := s.Collect(t.Context(), CollectOptions{MaxBytes: int64(rand.IntN(20_000))}); err != nil {
				t.Errorf("collect: %v", err)
			}
		}
	})
	wg.Go(func() {
		for time.Now().Before(end) {
			if err := s.Remove(refs[rand.IntN(len(refs))]); err != nil && !errors.Is(err, ErrNotFound) {
				t.Errorf("remove: %v", err)
			}
			s.List()
		}
	})
	wg.Wait()
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
	dir := s.Dir()
	s.Close()
	s = openStore(t, dir, Options{})
	if len(s.Problems()) != 0 {
		t.Errorf("opened again: %v", s.Problems())
	}
	for _, found := range s.List() {
		if found.Leased {
			t.Errorf("leased: %+v", found)
		}
	}
	checkTmp(t, s)
}
