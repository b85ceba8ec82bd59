package pool

import "sync"

// Lease is the right to use one instance alone. It ends with the first call of
// Release, Destroy or the like; later ones do nothing.
type Lease struct {
	*Instance
	// Cold says that the instance was launched for somebody who waited, and this
	// is the first call in it; Launch is what it took to start it.
	Cold   bool
	Launch Launch

	pool *Pool
	once sync.Once
}

func (p *Pool) lease(inst *Instance) *Lease {
	return &Lease{Instance: inst, Cold: inst.calls == 1 && inst.restSince.IsZero(), Launch: inst.launch, pool: p}
}

// Release gives the instance back, fit for another call.
func (l *Lease) Release() {
	l.once.Do(func() {
		l.pool.mu.Lock()
		defer l.pool.mu.Unlock()
		l.pool.servedLocked(l.Instance)
		l.pool.putBackLocked(l.Instance)
	})
}

// ReleaseUnused gives the instance back as if it had not been acquired.
func (l *Lease) ReleaseUnused() {
	l.once.Do(func() {
		l.pool.mu.Lock()
		defer l.pool.mu.Unlock()
		l.pool.putBackUnusedLocked(l.Instance)
	})
}

// Lost ends an instance whose connection broke, which is probably because its
// process ended. That is given a moment to do so by itself, so that Ended can
// tell how it did.
func (l *Lease) Lost(why string) {
	l.once.Do(func() {
		l.pool.mu.Lock()
		defer l.pool.mu.Unlock()
		l.Instance.lost = true
		l.pool.destroyLocked(l.Instance, why)
	})
}

// Destroy ends the instance, for the reason given in the log.
func (l *Lease) Destroy(why string) {
	l.once.Do(func() {
		l.pool.mu.Lock()
		defer l.pool.mu.Unlock()
		l.pool.destroyLocked(l.Instance, why)
	})
}
