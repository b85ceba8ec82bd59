package osthread

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The main thread is as likely as others to be given to a goroutine, so that it is among
// those of this many with certainty.
const threads = 500

func TestThreadsEnd(t *testing.T) {
	var (
		lock sync.Mutex
		used []int
		wg   sync.WaitGroup
	)
	for range 4 {
		wg.Go(func() {
			for range threads / 4 {
				ran := false
				Do(func() {
					tid := unix.Gettid()
					runtime.Gosched() // no other goroutine may get the thread
					if again := unix.Gettid(); again != tid {
						t.Errorf("it ran on thread %d, then on %d", tid, again)
					}
					lock.Lock()
					defer lock.Unlock()
					used, ran = append(used, tid), true
				})
				if !ran {
					t.Error("Do has returned before the function")
				}
			}
		})
	}
	wg.Wait()
	for _, tid := range used {
		if tid == os.Getpid() {
			t.Fatal("it ran on the main thread, which never ends")
		}
		// The number may be that of another one by now, in another process.
		path := "/proc/self/task/" + strconv.Itoa(tid)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(path); err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("thread %d has not ended", tid)
			}
		}
	}
}

func TestFunctionThatEndsItsGoroutine(t *testing.T) {
	Do(runtime.Goexit) // as FailNow of a test does
}

func TestProcessLivesAsLongAsItsThread(t *testing.T) {
	thread := Start()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var err error
	if !thread.Do(func() { err = cmd.Start() }) || err != nil {
		t.Fatal("it was not started:", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for range threads {
		Do(func() {}) // as others do, whose threads end
	}
	select {
	case err := <-ended:
		t.Fatal("the process ended before its thread:", err)
	default:
	}
	thread.Close()
	select {
	case <-ended:
		if got := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != syscall.SIGTERM {
			t.Errorf("the process ended by %v", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("the process has not ended with its thread")
		_ = cmd.Process.Kill()
		<-ended
	}
	if thread.Close(); thread.Do(func() { t.Error("a closed thread does something") }) {
		t.Error("a closed thread says that it did something")
	}
}
