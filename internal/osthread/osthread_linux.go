// Package osthread does what changes a thread of the operating system, such as moving
// it to another namespace or control group, or depends on its life, on a thread that
// nothing else uses.
package osthread

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Do calls a function on a thread of its own, which ends with it, and returns when the
// function did. The function may leave the thread as it likes, but must not unlock it.
//
// A goroutine that is locked to its thread and ends takes the thread with it, unless it is
// the main thread: Go keeps that one for ever, in whatever namespaces and control groups
// it is (mexit in Go's runtime/proc.go). So Do never calls the function there.
func Do(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			Do(do) // on another thread, as long as this goroutine keeps the main one
			runtime.UnlockOSThread()
			return
		}
		do()
	}()
	<-done
}

// Thread is a thread that does one thing after the other until it is closed. Processes
// are started by one if they have a parent death signal (PR_SET_PDEATHSIG): they get it
// when the thread ends that started them, not the program. It is safe for concurrent use.
type Thread struct {
	work    chan func()
	closing chan struct{} // closed by Close
	ended   chan struct{} // closed when no more is done
	once    sync.Once
}

// Start starts a thread. Close ends it.
func Start() *Thread {
	t := &Thread{work: make(chan func()), closing: make(chan struct{}), ended: make(chan struct{})}
	go Do(func() {
		defer close(t.ended)
		for {
			select {
			case do := <-t.work:
				do()
			case <-t.closing:
				return
			}
		}
	})
	return t
}

// Do calls a function on the thread and returns when the function did. It returns false,
// and has not called it, if the thread is closed. The function must not end its goroutine.
func (t *Thread) Do(do func()) bool {
	done := make(chan struct{})
	select {
	case t.work <- func() { defer close(done); do() }:
		<-done
		return true
	case <-t.ended:
		return false
	}
}

// Close ends the thread after what it does now.
func (t *Thread) Close() {
	t.once.Do(func() { close(t.closing) })
	<-t.ended
}
