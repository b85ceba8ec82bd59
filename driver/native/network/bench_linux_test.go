package network

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/tinefn/tine/test/netns"
)

// BenchmarkAttach attaches one sandbox after the other. Removals run beside it
// if there are any, and share the kernel's lock with it.
func BenchmarkAttach(b *testing.B) {
	for _, beside := range []bool{false, true} {
		b.Run(fmt.Sprintf("removals=%t", beside), func(b *testing.B) {
			w := newWorld(b)
			m := w.open(w.options())
			b.StopTimer()
			var boxes []*Attachment
			for i := range b.N {
				namespace := netns.New(b)
				b.StartTimer()
				a, err := m.Attach(b.Context(), Egress, Target{File: namespace}, fmt.Sprint(i))
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				if boxes = append(boxes, a); beside || len(boxes) > 200 {
					for _, a := range boxes {
						a.Detach()
					}
					boxes = nil
				}
				if !beside {
					w.must(m.remover.wait(b.Context()))
				}
			}
		})
	}
}

// BenchmarkAttachFifty attaches fifty sandboxes at a time; an operation is all
// of them. Detached tells how long it takes until all are gone.
func BenchmarkAttachFifty(b *testing.B) {
	w := newWorld(b)
	m := w.open(w.options())
	b.StopTimer()
	var detached time.Duration
	for range b.N {
		var namespaces []*os.File
		for range 50 {
			namespaces = append(namespaces, netns.New(b))
		}
		boxes := make([]*Attachment, len(namespaces))
		b.StartTimer()
		var wg sync.WaitGroup
		for i, namespace := range namespaces {
			wg.Go(func() {
				var err error
				if boxes[i], err = m.Attach(b.Context(), Egress, Target{File: namespace}, fmt.Sprint(i)); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		b.StopTimer()
		if b.Failed() {
			return
		}
		began := time.Now()
		for _, a := range boxes {
			a.Detach()
		}
		w.must(m.remover.wait(b.Context()))
		detached += time.Since(began)
	}
	b.ReportMetric(float64(detached.Milliseconds())/float64(b.N), "ms-detached/op")
}

func BenchmarkProbe(b *testing.B) {
	w := newWorld(b)
	s := w.attach(w.open(w.options()), "box")
	for b.Loop() {
		if err := s.Probe(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEnsure(b *testing.B) {
	w := newWorld(b)
	m := w.open(w.options())
	for b.Loop() {
		w.must(m.Ensure(b.Context()))
	}
}
