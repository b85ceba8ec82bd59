package prefork

import (
	"log/slog"
	"time"
)

// The pool is for spare time and spare memory. While the machine is short of either
// it makes nothing, and containers that find nothing ready make what they need
// themselves. Short of memory, it also gives up what nobody uses above the minimum.
//
// Nobody looks while the pool is as it should be: the machine is asked before each
// item that is to be made, and when the pool wakes up anyway and has more than its
// minimum.

// shortagePause is how long a shortage is taken for granted: the kernel renews its
// averages every two seconds (PSI_FREQ in kernel/sched/psi.c).
const shortagePause = 2 * time.Second

// The causes of pauses. The texts are labels of metrics.
const (
	shortOfProcessors = "processors"
	shortOfMemory     = "memory"
)

// shortage is what the pool knows of the machine.
type shortage struct {
	of     string    // empty: nothing
	until  time.Time // when to look again
	logged time.Time // when the log was told last
}

// shortageLogEvery is how often the log tells of a machine that is short of something
// again and again. What is between is for debugging.
const shortageLogEvery = time.Minute

// lacks reports whether the machine was short of something when somebody looked last,
// not long ago.
func (s *shortage) lacks(what string, now time.Time) bool { return s.of == what && now.Before(s.until) }

// hasRoom asks the machine, and reports whether something may be made. The lock is
// not held, as that reads files.
func (p *Pool) hasRoom() bool {
	processors, memory := p.opts.Short()
	p.mu.Lock()
	defer p.mu.Unlock()
	lacks := ""
	switch {
	case memory:
		lacks = shortOfMemory
	case processors:
		lacks = shortOfProcessors
	}
	now := time.Now()
	if before := p.short.of; before != lacks {
		level := slog.LevelDebug
		if now.Sub(p.short.logged) >= shortageLogEvery {
			level, p.short.logged = slog.LevelInfo, now
		}
		if lacks != "" {
			p.log.Log(p.ctx, level, "the pool makes nothing, as the machine is short of something", slog.String("short_of", lacks), slog.Int("ready", p.count[Ready]))
			p.opts.Observer.Paused(lacks)
		} else {
			p.log.Log(p.ctx, level, "the pool goes on", slog.String("was_short_of", before))
		}
	}
	p.short.of, p.short.until = lacks, now.Add(shortagePause)
	return lacks == ""
}

// lookAround asks the machine if the pool has more than it needs.
func (p *Pool) lookAround() {
	p.mu.Lock()
	more := !p.closed && p.count[Ready] > p.opts.Min
	p.mu.Unlock()
	if more {
		p.hasRoom()
	}
}
