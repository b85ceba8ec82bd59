package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// flight is a pull that several callers wait for.
type flight struct {
	cancel   context.CancelCauseFunc
	done     chan struct{} // closed when result and err are set
	result   *record
	err      error
	progress progress
	waiting  int // callers; guarded by the store's mu
}

// key is what makes two pulls one: the name and who asks. It keeps no
// password in memory.
func (p *pull) key() (string, error) {
	auth, err := json.Marshal(p.auth)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(auth)
	return fmt.Sprintf("%s %t %t %x", p.name, p.insecure, p.once, sum), nil
}

// share runs a pull, or joins the one that runs.
func (s *Store) share(ctx context.Context, p *pull, listener func(Progress)) (*record, error) {
	key, err := p.key()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	f := s.flights[key]
	if f == nil {
		// It lives as long as somebody waits, which may be longer than the
		// caller who came first.
		flightCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		f = &flight{cancel: cancel, done: make(chan struct{})}
		s.flights[key] = f
		s.pulling.Add(1)
		go func() {
			defer s.pulling.Done()
			defer cancel(nil)
			f.result, f.err = p.run(flightCtx, &f.progress)
			s.mu.Lock()
			if s.flights[key] == f {
				delete(s.flights, key)
			}
			s.mu.Unlock()
			close(f.done)
		}()
	}
	f.waiting++
	s.mu.Unlock()
	defer f.progress.listen(listener)()
	select {
	case <-f.done:
		return f.result, f.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	if f.waiting--; f.waiting == 0 {
		f.cancel(context.Cause(ctx))
		if s.flights[key] == f { // who comes now begins anew
			delete(s.flights, key)
		}
	}
	s.mu.Unlock()
	return nil, context.Cause(ctx)
}

// endFlights ends all pulls and waits for them.
func (s *Store) endFlights() {
	s.mu.Lock()
	s.closing = true
	for _, f := range s.flights {
		f.cancel(ErrClosed)
	}
	s.mu.Unlock()
	s.pulling.Wait()
}
