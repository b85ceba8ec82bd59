package placement

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// logged is what a log got.
type logged struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// write replaces a file in one step, or writes over it.
func write(t *testing.T, path, content string, replace bool) {
	t.Helper()
	target := path
	if replace {
		target += ".new"
	}
	if err := os.WriteFile(target, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if replace {
		if err := os.Rename(target, path); err != nil {
			t.Fatal(err)
		}
	}
}

// The file is looked at every second: what it says after a number of looks.
func TestFileIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "runners")
		var log logged
		d := &dialer{}
		pool := discover(t, d, DiscoveryOptions{File: path, Logger: slog.New(slog.NewTextHandler(&log, nil))}, "192.0.2.9:1")
		looks := func(n int, want ...string) {
			t.Helper()
			time.Sleep(time.Duration(n)*DefaultFileInterval + time.Millisecond)
			synctest.Wait()
			if got := names(t, pool); !slices.Equal(got, append(want, "192.0.2.9:1")) {
				t.Errorf("got %q", got)
			}
		}
		warnings := func(want int) {
			t.Helper()
			if got := strings.Count(log.String(), "level=WARN"); got != want {
				t.Errorf("%d warnings:\n%s", got, &log)
			}
		}
		looks(0)
		warnings(1) // it is not there

		write(t, path, "192.0.2.1:1\n192.0.2.2:1\n", true)
		looks(1, "192.0.2.1:1", "192.0.2.2:1")
		write(t, path, `["192.0.2.2:1", "192.0.2.3:1"]`, true)
		looks(1, "192.0.2.2:1", "192.0.2.3:1")

		// A file that is being written is not believed until it stays the same.
		write(t, path, "192.0.2.1:1\n", false)
		looks(1, "192.0.2.2:1", "192.0.2.3:1")
		write(t, path, "192.0.2.1:1\n192.0.2.4:1\n", false)
		looks(1, "192.0.2.2:1", "192.0.2.3:1")
		looks(1, "192.0.2.1:1", "192.0.2.4:1")
		write(t, path, "192.0.2.5:1\n192.0.2.6:1", true) // its last line may go on
		looks(1, "192.0.2.1:1", "192.0.2.4:1")
		looks(1, "192.0.2.5:1", "192.0.2.6:1")
		warnings(1)

		// Nonsense, nothing and too much are ignored, with one warning each.
		for i, nonsense := range []string{"192.0.2.1:1\n192.0.2\n", "", strings.Repeat("# x\n", maxListBytes/4+1), `["192.0.2.1:1"`} {
			write(t, path, nonsense, false)
			looks(3, "192.0.2.5:1", "192.0.2.6:1")
			warnings(2 + i)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		looks(3, "192.0.2.5:1", "192.0.2.6:1")
		warnings(6)

		write(t, path, "192.0.2.6:1\n", true)
		looks(1, "192.0.2.6:1")
		write(t, path, "[]", true)
		looks(1)
		warnings(6)
	})
}

// A runner that is named in several places is one, and one that stays is not
// dialed again.
func TestRunnersThatStayAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "runners")
		write(t, path, "192.0.2.1:1\n192.0.2.2:1\n", true)
		d := &dialer{}
		pool := discover(t, d, DiscoveryOptions{File: path}, "192.0.2.1:1", "192.0.2.3:1")
		write(t, path, "192.0.2.4:1\n", true)
		time.Sleep(DefaultFileInterval + time.Millisecond)
		synctest.Wait()
		if got := names(t, pool); !slices.Equal(got, []string{"192.0.2.1:1", "192.0.2.3:1", "192.0.2.4:1"}) {
			t.Errorf("got %q", got)
		}
		if len(d.made) != 4 {
			t.Errorf("%d runners were dialed", len(d.made))
		}
	})
}

// Calls of a runner that left may finish, for so long; one that comes back
// meanwhile is another.
func TestRunnerThatLeftDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "runners")
		write(t, path, "192.0.2.1:1\n", true)
		var log logged
		d := &dialer{}
		pool := discover(t, d, DiscoveryOptions{File: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		first := d.made[0]
		first.release = make(chan struct{})
		write(t, path, "[]", true)
		<-first.left
		write(t, path, "192.0.2.1:1\n", true)
		time.Sleep(DefaultFileInterval + time.Millisecond)
		synctest.Wait()
		if got := names(t, pool); !slices.Equal(got, []string{"192.0.2.1:1"}) || len(d.made) != 2 {
			t.Errorf("got %q, dialed %d", got, len(d.made))
		}
		if strings.Contains(log.String(), "given up") {
			t.Error("calls were given up at once")
		}
		time.Sleep(DefaultDrainTimeout)
		synctest.Wait()
		if !strings.Contains(log.String(), "given up") {
			t.Error("calls were not given up")
		}
	})
}

// A runner that cannot be dialed is left out, and tried at the next look.
func TestRunnerThatCannotBeDialed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dialer{refuse: "192.0.2.1:1"}
		pool := discover(t, d, DiscoveryOptions{}, "192.0.2.1:1", "192.0.2.2:1")
		if got := names(t, pool); !slices.Equal(got, []string{"192.0.2.2:1"}) {
			t.Errorf("got %q", got)
		}
		d.mu.Lock()
		d.refuse = ""
		d.mu.Unlock()
		time.Sleep(DefaultLookupInterval + time.Millisecond)
		synctest.Wait()
		if got := names(t, pool); len(got) != 2 {
			t.Errorf("got %q", got)
		}
	})
}

// Close waits for the calls of all runners, until its context ends.
func TestCloseOfAPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dialer{}
		pool, err := Discover(t.Context(), DiscoveryOptions{Places: []Place{{Host: "", Address: mustPlace(t, "192.0.2.1:1").Address, Port: 1}}, Dial: d.dial})
		if err != nil {
			t.Fatal(err)
		}
		d.made[0].release = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := pool.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := Discover(t.Context(), DiscoveryOptions{}); err == nil {
			t.Error("nothing dials")
		}
	})
}

func mustPlace(t *testing.T, text string) Place {
	t.Helper()
	p, err := ParsePlace(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
