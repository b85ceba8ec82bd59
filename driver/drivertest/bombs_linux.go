package drivertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver"
)

// bombLimits are those of containers that want too much.
var bombLimits = driver.Limits{
	MemoryBytes: 64 << 20, MilliCPU: 1000, Processes: 60, OpenFiles: 350, PendingSignals: 1000, MessageQueueBytes: 819200,
}

// bomb is one way to want too much.
type bomb struct {
	kind string // as the test function names it
	many int    // how much it asks for
	most int    // how much it may get; it may be ended instead
	tmp  bool   // with limits of /tmp
}

// Bombs that count in MiB may get what the container's memory holds. Sockets'
// buffers are not counted as memory, so that their number is what bounds them.
var bombList = []bomb{
	{kind: "memory", many: 512, most: 64},
	{kind: "tmp", many: 512, most: 64},
	{kind: "shm", many: 512, most: 64},
	{kind: "memfd", many: 512, most: 64},
	{kind: "sysv-shm", many: 512, most: 64},
	{kind: "pipes", many: 2000, most: 175},
	{kind: "sockets", many: 2000, most: 175},
	{kind: "queues", many: 2000, most: 20},
	{kind: "sysv-sem", many: 40_000, most: 2000},
	{kind: "descriptors", many: 5000, most: 350},
	{kind: "inodes-tmp", many: 5000, most: 100, tmp: true},
	{kind: "tmp", many: 512, most: 2, tmp: true},
	{kind: "locks", many: 3000, most: 3000},
}

// explode lets containers take too much, while another one goes on.
func explode(s *suite) {
	d := s.driver()
	bystander := socketDir(s)
	s.start(d, functionSpec(s, bystander))
	awaitSocket(s, bystander)
	before := shared(s)
	for _, b := range bombList {
		name := b.kind
		if b.tmp {
			name += " with limits of tmp"
		}
		s.Run(name, func(t *testing.T) {
			on := &suite{T: t, images: s.images, newDriver: s.newDriver}
			one(on, d, b)
			alive(on, bystander)
		})
	}
	s.Run("fork", func(t *testing.T) { forkBomb(&suite{T: t, images: s.images, newDriver: s.newDriver}, d, bystander) })
	if after := shared(s); after != before {
		s.Errorf("the host has %s, and had %s", after, before)
	}
}

// one starts a container, explodes it and removes it.
func one(s *suite, d driver.Driver, b bomb) {
	s.Helper()
	dir := socketDir(s)
	spec := functionSpec(s, dir)
	spec.Limits = bombLimits
	if b.tmp {
		spec.Limits.TmpMiB, spec.Limits.TmpInodes = 2, 100
	}
	c := s.start(d, spec)
	awaitSocket(s, dir)
	answer, err := exchange(s.Context(), dir, "bomb", fmt.Sprintf(`{"kind":%q,"many":%d}`, b.kind, b.many))
	if err != nil { // it has been ended
		exit := s.wait(c)
		if !exit.OutOfMemory {
			s.Errorf("it ended with %+v: %v", exit, err)
		}
	} else {
		var made struct {
			Count   int    `json:"count"`
			Refusal string `json:"refusal"`
		}
		s.must("understand what it got", json.Unmarshal([]byte(answer), &made))
		if made.Count > b.most || made.Count == 0 {
			s.Errorf("it got %d of %d, at most %d are its part: %q", made.Count, b.many, b.most, made.Refusal)
		}
	}
	removeInTime(s, c)
	if b.kind == "locks" {
		checkLocks(s, dir)
	}
}

// removeInTime removes a container that does not want to be.
func removeInTime(s *suite, c driver.Container) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	s.must("remove", c.Remove(ctx))
}

// alive makes sure that another container and the host work.
func alive(s *suite, bystander string) {
	s.Helper()
	if got := call(s, bystander, "count", "12345"); got != "5" {
		s.Errorf("the other container answers %q", got)
	}
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	s.must("start a process", exec.CommandContext(ctx, "true").Run())
}

// forkBomb goes on until the container is removed.
func forkBomb(s *suite, d driver.Driver, bystander string) {
	dir := socketDir(s)
	spec := functionSpec(s, dir)
	spec.Limits = bombLimits
	var out lockedBuffer
	spec.Stdout = &out
	c := s.start(d, spec)
	awaitSocket(s, dir)
	exploded := make(chan error, 1)
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	go func() {
		_, err := exchange(ctx, dir, "bomb", `{"kind":"fork"}`)
		exploded <- err
	}()
	processes := 0
	for deadline := time.Now().Add(patience); processes < int(bombLimits.Processes)/2; time.Sleep(10 * time.Millisecond) {
		processes = copies(s, dir)
		if processes > int(bombLimits.Processes) || time.Now().After(deadline) {
			s.Fatalf("%d processes, of %d that it may have", processes, bombLimits.Processes)
		}
	}
	alive(s, bystander)
	removeInTime(s, c)
	if err := <-exploded; err == nil {
		s.Error("the fork bomb came to an end")
	}
	if left := copies(s, dir); left != 0 {
		s.Errorf("%d processes are left", left)
	}
}

// copies counts the processes that see a socket directory.
func copies(s *suite, dir string) (count int) {
	s.Helper()
	entries, err := os.ReadDir("/proc")
	s.must("list processes", err)
	for _, entry := range entries {
		mounts, err := os.ReadFile("/proc/" + entry.Name() + "/mountinfo")
		if err == nil && strings.Contains(string(mounts), dir+" "+driver.SocketMountPath+" ") {
			count++
		}
	}
	return count
}

// checkLocks looks for locks on files in a directory that nobody holds any more.
func checkLocks(s *suite, dir string) {
	s.Helper()
	var stat unix.Stat_t
	s.must("look at the file", unix.Stat(dir+"/locked", &stat))
	locks, err := os.ReadFile("/proc/locks")
	s.must("list locks", err)
	if strings.Contains(string(locks), fmt.Sprintf(":%d ", stat.Ino)) {
		s.Error("locks are left")
	}
}

// shared counts what the host has of things that containers have their own of.
func shared(s *suite) string {
	s.Helper()
	var counts []string
	for _, name := range []string{"/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg"} {
		content, err := os.ReadFile(name)
		s.must("look at the machine", err)
		counts = append(counts, fmt.Sprintf("%s: %d", name, strings.Count(string(content), "\n")-1))
	}
	return strings.Join(counts, ", ")
}
