package image

import (
	"io"
	"sync"
	"time"
)

// progress collects what the parts of a pull tell, for all who share it.
type progress struct {
	mu        sync.Mutex
	now       Progress
	told      time.Time
	listeners map[int]func(Progress)
	next      int
}

const progressEvery = 100 * time.Millisecond

func (p *progress) listen(f func(Progress)) (stop func()) {
	if f == nil {
		return func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listeners == nil {
		p.listeners = map[int]func(Progress){}
	}
	number := p.next
	p.next++
	p.listeners[number] = f
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.listeners, number)
	}
}

func (p *progress) change(edit func(*Progress), always bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit(&p.now)
	if !always && time.Since(p.told) < progressEvery {
		return
	}
	p.told = time.Now()
	for _, f := range p.listeners {
		f(p.now)
	}
}

func (p *progress) total(bytes int64) { p.change(func(n *Progress) { n.BytesTotal += bytes }, false) }
func (p *progress) layers(count int)  { p.change(func(n *Progress) { n.Layers = count }, false) }
func (p *progress) layerDone()        { p.change(func(n *Progress) { n.LayersDone++ }, true) }
func (p *progress) add(bytes int64)   { p.change(func(n *Progress) { n.BytesDone += bytes }, false) }

type progressReader struct {
	io.Reader
	progress *progress
	bytes    int64
}

func (r *progressReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.bytes += int64(n)
	r.progress.add(int64(n))
	return n, err
}
