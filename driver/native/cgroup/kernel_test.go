//go:build linux

package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/osthread"
)

const mebibyte = 1 << 20

func TestMemoryHogIsKilledAndCounted(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "hog")
		if err := g.Set(Limits{MemoryBytes: 32 * mebibyte}); err != nil {
			t.Fatal(err)
		}
		modest := attach(t, g, "touch "+strconv.Itoa(4*mebibyte))
		modest.begin()
		if got := modest.answer(); got != "touched <nil>" {
			t.Errorf("a little memory: %q", got)
		}
		if kills, err := g.OutOfMemory(); err != nil || kills != 0 {
			t.Errorf("before: %d kills, %v", kills, err)
		}
		hog := attach(t, g, "touch "+strconv.Itoa(64*mebibyte))
		hog.begin()
		if signal := hog.ended(t); signal != syscall.SIGKILL {
			t.Errorf("ended by %v", signal)
		}
		if kills, err := g.OutOfMemory(); err != nil || kills == 0 {
			t.Errorf("after: %d kills, %v", kills, err)
		}
	})
}

func TestForkBombIsStopped(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "bomb")
		const limit = 40 // threads of Go's runtime count
		if err := g.Set(Limits{Processes: limit}); err != nil {
			t.Fatal(err)
		}
		bomb := attach(t, g, "fork 200")
		bomb.begin()
		if made, err := strconv.Atoi(bomb.answer()); err != nil || made < 5 || made >= limit {
			t.Errorf("made %d, %v", made, err)
		}
		if stats, err := g.Stats(); err != nil || stats.Processes < 5 || stats.Processes > limit {
			t.Errorf("%+v, %v", stats, err)
		}
		if err := g.Kill(); err != nil {
			t.Error(err)
		}
		eventually(t, "all are dead", g.Empty)
		if err := g.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestProcessorTimeIsLimited(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "spin")
		if err := g.Set(Limits{MilliCPU: 100, Weight: 50}); err != nil {
			t.Fatal(err)
		}
		spin := attach(t, g, "spin")
		before, err := g.Stats()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		spin.begin()
		eventually(t, "it is throttled", func() bool {
			throttled, err := readField(g.dir("cpu"), "cpu.stat", "nr_throttled")
			if err != nil {
				t.Fatal(err)
			}
			return throttled >= 3
		})
		after, err := g.Stats()
		if err != nil {
			t.Fatal(err)
		}
		used, passed := after.CPU-before.CPU, time.Since(began)
		if used == 0 || used > passed/10+40*time.Millisecond {
			t.Errorf("used %v in %v", used, passed)
		}
	})
}

func TestDevicesAreRefused(t *testing.T) {
	kmsg := func(t *testing.T) string { // a device that root can open
		const path = "/dev/kmsg"
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Skipf("no device to be refused: %v", err)
		}
		f.Close()
		return path
	}
	test := func(t *testing.T, m *Manager) {
		g := create(t, m, "devices")
		for path, refused := range map[string]bool{"/dev/null": false, "/dev/urandom": false, kmsg(t): true} {
			c := attach(t, g, "open "+path)
			c.begin()
			if got := c.answer(); got != strconv.FormatBool(refused) {
				t.Errorf("%s: refused %q, want %t", path, got, refused)
			}
		}
	}
	inAllModes(t, test)
	t.Run("without eBPF", func(t *testing.T) {
		if open(t, Options{}).Mode() != Hybrid {
			t.Skip("only machines with both versions can do without eBPF")
		}
		test(t, open(t, Options{setDevicesV2: func(string, *cgroups.Resources) error { return unix.EPERM }}))
	})
}

func TestFreezeAndThaw(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "freeze")
		c := attach(t, g, "spin")
		c.begin()
		used := func() time.Duration {
			stats, err := g.Stats()
			if err != nil {
				t.Fatal(err)
			}
			return stats.CPU
		}
		for range 3 {
			now := used()
			eventually(t, "it runs", func() bool { return used() > now })
			if err := g.Freeze(t.Context()); err != nil {
				t.Fatal(err)
			}
			frozen := used()
			time.Sleep(20 * time.Millisecond)
			// The kernel may still have had a little to add up.
			if got := used() - frozen; got > time.Millisecond {
				t.Errorf("frozen, it used %v", got)
			}
			if err := g.Thaw(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestKillOfAFrozenGroup(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "frozen")
		children := []child{attach(t, g, "sleep"), attach(t, g, "fork 10"), attach(t, g, "spin")}
		for _, c := range children {
			c.begin()
		}
		children[1].answer()
		if g.Empty() {
			t.Error("empty with processes")
		}
		if err := g.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.Kill(); err != nil {
			t.Fatal(err)
		}
		for _, c := range children {
			if signal := c.ended(t); signal != syscall.SIGKILL {
				t.Errorf("ended by %v", signal)
			}
		}
		if err := g.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		for _, dir := range g.own() {
			if exists(dir) {
				t.Errorf("%s is left", dir)
			}
		}
		// All of it again, on nothing.
		if err := errors.Join(g.Kill(), g.Remove(t.Context())); err != nil || !g.Empty() {
			t.Errorf("of a removed group: %v", err)
		}
	})
}

func TestBirthInsideOfTheGroup(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "birth")
		if _, ok := g.Fd(); ok != (m.Mode() != V1) {
			t.Fatalf("a directory: %t", ok)
		} else if !ok {
			return
		}
		c := start(t, "sleep", g)
		is, err := memberships(c.pid())
		if err != nil || is[""] != "/"+g.path() {
			t.Errorf("born in %v, %v", is, err)
		}
		if err := g.Attach(c.pid()); err != nil {
			t.Fatal(err)
		}
		if is, err = memberships(c.pid()); err != nil {
			t.Fatal(err)
		}
		for _, controller := range limitControllers {
			if m.Mode() == Hybrid && is[controller] != "/"+g.path() {
				t.Errorf("%s: in %s", controller, is[controller])
			}
		}
	})
}

func TestThreadThatEntersPassesTheGroupOn(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "entered")
		var (
			c   child
			own map[string]string
			err error
		)
		osthread.Do(func() {
			var leave func() error
			if leave, err = g.Enter(); err != nil {
				return
			}
			c = start(t, "sleep", nil)
			if err = leave(); err == nil {
				own, err = cgroups.ParseCgroupFile("/proc/thread-self/cgroup")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		is, err := memberships(c.pid())
		if err != nil {
			t.Fatal(err)
		}
		for _, controller := range limitControllers {
			if m.Mode() != V2 && (is[controller] != "/"+g.path() || own[controller] != "/"+m.group()) {
				t.Errorf("%s: the process is in %s, and the thread in %s", controller, is[controller], own[controller])
			}
		}
		if m.Mode() == V1 && is["freezer"] == "/"+g.path() {
			t.Error("the thread entered a group by whose end it would be ended")
		}
		if err := g.Attach(c.pid()); err != nil { // what is missing
			t.Fatal(err)
		}
		if err := errors.Join(g.Kill(), g.Remove(t.Context())); err != nil {
			t.Error(err)
		}
		if osthread.Do(func() { _, err = g.Enter() }); m.Mode() != V2 && err == nil {
			t.Error("a group that was removed is entered")
		}
	})
}

func TestRemoveWaitsForProcesses(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *Manager) {
		g := create(t, m, "busy")
		attach(t, g, "sleep")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := g.Remove(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "processes in it") {
			t.Errorf("with a process: %v", err)
		}
		if err := g.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := g.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestSweepRemovesDeadInstancesOnly(t *testing.T) {
	inAllModes(t, func(t *testing.T, m *Manager) {
		other := func() *Manager { return open(t, Options{withoutHybrid: m.Mode() == V1}) }
		dead, alive := other(), other()
		victim := attach(t, create(t, dead, "a"), "sleep")
		create(t, dead, "empty")
		frozen := create(t, dead, "frozen")
		frozenVictim := attach(t, frozen, "sleep")
		if err := frozen.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		kept := []*Group{create(t, m, "own"), create(t, alive, "other")}
		attach(t, kept[1], "sleep")
		if err := m.Sweep(t.Context(), func(instance string) bool { return instance == alive.instance }); err != nil {
			t.Fatal(err)
		}
		for _, c := range []child{victim, frozenVictim} {
			if signal := c.ended(t); signal != syscall.SIGKILL {
				t.Errorf("ended by %v", signal)
			}
		}
		for _, point := range m.tree.hierarchies() {
			if exists(point, dead.group()) {
				t.Errorf("%s/%s is left", point, dead.group())
			}
		}
		for _, g := range kept {
			for _, dir := range g.own() {
				if !exists(dir) {
					t.Errorf("%s is gone", dir)
				}
			}
		}
		if kept[1].Empty() {
			t.Error("a process of a living instance is gone")
		}
	})
}

func TestNamesAreForOneUse(t *testing.T) {
	m := open(t, Options{})
	g := create(t, m, "once")
	if _, err := m.Create("once"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second group: %v", err)
	}
	for _, dir := range g.own() {
		if !exists(dir) {
			t.Errorf("%s is gone", dir)
		}
	}
	if _, err := Open(Options{Parent: m.parent, Instance: m.instance}); err == nil || !exists(m.tree.core, m.group()) {
		t.Errorf("a second instance: %v", err)
	}
}

func TestAttachOfAProcessThatIsGone(t *testing.T) {
	m := open(t, Options{})
	g := create(t, m, "gone")
	c := start(t, "sleep", nil)
	c.kill(t)
	if err := g.Attach(c.pid()); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("got %v", err)
	}
}

func TestCloseRemovesTheParentWithTheLastInstance(t *testing.T) {
	first, second := open(t, Options{}), open(t, Options{})
	if err := first.Close(); err != nil || !exists(second.tree.core, second.group()) {
		t.Errorf("the first: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	for _, point := range second.tree.hierarchies() {
		if exists(filepath.Join(point, second.parent)) {
			t.Errorf("%s/%s is left", point, second.parent)
		}
	}
}

// Limits of a new group, as a function gets it, and what they come to again.
func BenchmarkSet(b *testing.B) {
	for name, withoutHybrid := range map[string]bool{"default": false, "v1": true} {
		b.Run(name, func(b *testing.B) {
			g := create(b, open(b, Options{withoutHybrid: withoutHybrid}), "set")
			limits := Limits{MemoryBytes: 128 * mebibyte, MilliCPU: 500, Processes: 256, Weight: 200}
			for b.Loop() {
				if err := g.Set(limits); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := g.Set(Limits{}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

func BenchmarkCreateAndRemove(b *testing.B) {
	for name, withoutHybrid := range map[string]bool{"default": false, "v1": true} {
		b.Run(name, func(b *testing.B) {
			m := open(b, Options{withoutHybrid: withoutHybrid})
			for i := 0; b.Loop(); i++ {
				if err := create(b, m, strconv.Itoa(i)).Remove(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFreezeAndThaw(b *testing.B) {
	for name, withoutHybrid := range map[string]bool{"default": false, "v1": true} {
		b.Run(name, func(b *testing.B) {
			g := create(b, open(b, Options{withoutHybrid: withoutHybrid}), "freeze")
			attach(b, g, "sleep")
			for b.Loop() {
				if err := errors.Join(g.Freeze(b.Context()), g.Thaw(b.Context())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Attach is measured on processes that are new, as those of a pool are.
func BenchmarkAttach(b *testing.B) {
	for name, withoutHybrid := range map[string]bool{"default": false, "v1": true} {
		b.Run(name, func(b *testing.B) {
			m := open(b, Options{withoutHybrid: withoutHybrid})
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				g := create(b, m, strconv.Itoa(i))
				var inside *Group
				if m.Mode() != V1 {
					inside = g
				}
				c := start(b, "sleep", inside)
				b.StartTimer()
				if err := g.Attach(c.pid()); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				c.kill(b)
				if err := g.Remove(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
