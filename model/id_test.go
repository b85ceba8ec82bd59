package model

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestIDsAre26CharactersOfTheAlphabet(t *testing.T) {
	for range 1000 {
		id := NewID()
		if len(id) != IDLength || strings.Trim(id, idAlphabet) != "" || id[0] > '7' {
			t.Fatalf("got %q", id)
		}
	}
}

func TestIDLayout(t *testing.T) {
	s := newIDSource(func() time.Time { return time.UnixMilli(0x0123456789ab) })
	s.process = [6]byte{0xff, 0, 0xff, 0, 0xff, 0}
	// 128 bits in groups of five, the first of three: 0123456789ab ff00ff00ff00 00000001.
	if got, want := s.next(), "014D2PF2DBZW0FY07Z00000001"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := encodeID([16]byte(slices.Repeat([]byte{0xff}, 16))), "7"+strings.Repeat("Z", 25); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := encodeID([16]byte{}), strings.Repeat("0", 26); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestIDsSortByTheirOrder(t *testing.T) {
	made := make([]string, 10_000)
	for i := range made {
		made[i] = NewID()
	}
	if !slices.IsSorted(made) {
		t.Error("identifiers do not sort in the order they were made")
	}
}

func TestIDsAreUniqueUnderConcurrency(t *testing.T) {
	const makers, each = 16, 2000
	lists := make([][]string, makers)
	var wg sync.WaitGroup
	for i := range lists {
		wg.Go(func() {
			for range each {
				lists[i] = append(lists[i], NewID())
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, list := range lists {
		if !slices.IsSorted(list) {
			t.Error("the identifiers of one goroutine do not sort")
		}
		for _, id := range list {
			seen[id] = true
		}
	}
	if len(seen) != makers*each {
		t.Errorf("%d of %d are different", len(seen), makers*each)
	}
}

func TestIDsSortWhenTheClockIsSetBack(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	s := newIDSource(func() time.Time { return now })
	var made []string
	for _, step := range []time.Duration{0, time.Second, -time.Hour, time.Millisecond, 2 * time.Hour, -time.Minute} {
		now = now.Add(step)
		made = append(made, s.next(), s.next())
	}
	if !slices.IsSorted(made) || len(slices.Compact(slices.Clone(made))) != len(made) {
		t.Errorf("got %q", made)
	}
}

func TestIDsSortWhenTheCounterWraps(t *testing.T) {
	s := newIDSource(func() time.Time { return time.UnixMilli(5) })
	s.counter = ^uint32(0) - 2
	var made []string
	for range 6 {
		made = append(made, s.next())
	}
	if !slices.IsSorted(made) || len(slices.Compact(slices.Clone(made))) != len(made) {
		t.Errorf("got %q", made)
	}
}

func TestProcessesHaveDifferentIDs(t *testing.T) {
	clock := func() time.Time { return time.UnixMilli(5) }
	if a, b := newIDSource(clock).next(), newIDSource(clock).next(); a == b {
		t.Errorf("two sources made %s", a)
	}
}
