package image

import (
	"bytes"
	"math"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// large is a layer of about that many bytes on disk, uncompressed and packed.
func large(t testing.TB, name string, size int) v1.Layer {
	t.Helper()
	content := make([]byte, size)
	for i := range content { // nothing that a compressor would find
		content[i] = byte(i*i>>8 ^ i*7 ^ len(name))
	}
	return layerOf(t, pack(t, regular(name, string(content))))
}

func TestSharedLayersAreCountedOnceAndExemptOnesNotAtAll(t *testing.T) {
	registry := newRegistry(t)
	s := newStore(t, Options{})
	base := large(t, "base", 1<<20)
	first := registry.push(t, imageOf(t, base, large(t, "first", 1<<16)), "fn/first:1")
	second := registry.push(t, imageOf(t, base, large(t, "second", 1<<16)), "fn/second:1")
	mustPull(t, s, first)
	time.Sleep(2 * time.Millisecond)
	mustPull(t, s, second)
	all, err := s.Collect(t.Context(), CollectOptions{MaxBytes: math.MaxInt64})
	if err != nil || all.Idle != 2 || all.Busy != 0 || all.BusyBytes != 0 {
		t.Fatalf("%+v %v", all, err)
	}
	sum := int64(0)
	for _, one := range s.List() {
		sum += one.Bytes
	}
	if all.Left > sum-1<<20 {
		t.Errorf("%d bytes, the sum of both is %d", all.Left, sum)
	}
	exempt := CollectOptions{MaxBytes: all.Left / 2, Exempt: []string{first}}
	done, err := s.Collect(t.Context(), exempt)
	// The base counts, as the second has it too: so that one goes, and what is left
	// is not counted.
	if err != nil || len(done.Images) != 1 || done.Left != 0 || done.Busy+done.Idle != 0 {
		t.Errorf("%+v %v", done, err)
	}
	if _, err := s.Get(first); err != nil {
		t.Error(err)
	}
	exempt.MaxBytes = 0
	if done, err = s.Collect(t.Context(), exempt); err != nil || len(done.Images) != 0 {
		t.Errorf("%+v %v", done, err)
	}
}

func TestImagesStayThatNoPullWouldBringBack(t *testing.T) {
	registry := newRegistry(t)
	s := newStore(t, Options{OwnHosts: []string{"localhost:1"}})
	pulled := registry.push(t, small(t, "pulled"), "fn/pulled:1")
	mustPull(t, s, pulled)
	loaded := layoutTar(t, map[string]v1.Image{"example.com/loaded:1": small(t, "loaded")})
	if _, err := s.Import(t.Context(), bytes.NewReader(loaded)); err != nil {
		t.Fatal(err)
	}
	push := func(text string) {
		t.Helper()
		archive := layoutTar(t, map[string]v1.Image{"x.example/pushed:" + text: small(t, text)})
		images, err := s.importAs(t.Context(), bytes.NewReader(archive), false)
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.FindManifest("x.example/pushed", text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.PutManifest(t.Context(), OwnHost+"/pushed", "1", string(m.Type), m.Content); err != nil {
			t.Fatal(err)
		}
		if err := s.Untag("x.example/pushed:" + text); err != nil || len(images) != 1 {
			t.Fatal(err)
		}
	}
	push("old")
	push("new") // takes the tag
	keep := CollectOptions{KeepPushed: true}
	done, err := s.Collect(t.Context(), keep)
	if err != nil || len(done.Images) != 2 || done.Busy != 2 {
		t.Fatalf("%+v %v", done, err)
	}
	for _, ref := range []string{"example.com/loaded:1", "localhost:1/pushed:1"} {
		if _, err := s.Get(ref); err != nil {
			t.Error(err)
		}
	}
	// It is remembered, and ends with the tag.
	dir := s.Dir()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Options{})
	if done, err = s.Collect(t.Context(), keep); err != nil || len(done.Images) != 0 {
		t.Errorf("opened again: %+v %v", done, err)
	}
	if err := s.Untag("example.com/loaded:1"); err != nil {
		t.Fatal(err)
	}
	if done, err = s.Collect(t.Context(), keep); err != nil || len(done.Images) != 1 {
		t.Errorf("without its tag: %+v %v", done, err)
	}
}

func TestImagesThatWereJustLookedForAreSpared(t *testing.T) {
	registry := newRegistry(t)
	s := newStore(t, Options{})
	mustPull(t, s, registry.push(t, small(t, "a"), "fn/a:1"))
	if done, err := s.Collect(t.Context(), CollectOptions{Spare: time.Hour}); err != nil || len(done.Images) != 0 || done.Busy != 1 || done.BusyBytes != done.Left {
		t.Errorf("%+v %v", done, err)
	}
	if done, err := s.Collect(t.Context(), CollectOptions{MaxBytes: math.MaxInt64, Least: 1, Spare: time.Nanosecond}); err != nil || len(done.Images) != 1 {
		t.Errorf("%+v %v", done, err)
	}
}
