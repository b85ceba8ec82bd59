package image

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// BenchmarkAcquire is what a start waits for.
func BenchmarkAcquire(b *testing.B) {
	registry := newRegistry(b)
	s := newStore(b, Options{})
	var texts []string
	for i := range 10 {
		texts = append(texts, fmt.Sprint(i))
	}
	ref := registry.push(b, small(b, texts...), "fn/a:1")
	mustPull(b, s, ref)
	for b.Loop() {
		lease, err := s.Acquire(ref)
		if err != nil {
			b.Fatal(err)
		}
		lease.Release()
	}
}

// BenchmarkImport unpacks a layer as interpreters have them: many small files.
func BenchmarkImport(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	var entries []entry
	for dir := range 100 {
		entries = append(entries, directory(fmt.Sprintf("lib/%d", dir)))
		for file := range 50 {
			content := make([]byte, 10_000)
			for i := range content {
				content[i] = byte(random.Uint32N(16))
			}
			entries = append(entries, regular(fmt.Sprintf("lib/%d/%d", dir, file), string(content)))
		}
	}
	layer := pack(b, entries...)
	archive := layoutTar(b, map[string]v1.Image{"fn/a:1": imageOf(b, layerOf(b, layer))})
	b.SetBytes(int64(len(layer)))
	for b.Loop() {
		s := newStore(b, Options{})
		if _, err := s.Import(b.Context(), bytes.NewReader(archive)); err != nil {
			b.Fatal(err)
		}
	}
}
