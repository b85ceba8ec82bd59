package image

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

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
