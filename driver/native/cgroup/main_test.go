//go:build linux

package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests run this program again, as a process to be put into a group, which
// waits for a line and then does what the variable says.
const childVariable = "TINE_TEST_CGROUP_CHILD"

func TestMain(m *testing.M) {
	what := os.Getenv(childVariable)
	if what == "" {
		sweepTests()
		os.Exit(m.Run())
	}
	bufio.NewReader(os.Stdin).ReadString('\n')
	what, argument, _ := strings.Cut(what, " ")
	switch what {
	case "sleep":
	case "spin":
		go func() {
			for n := 0; ; n++ {
				runtime.KeepAlive(n)
			}
		}()
	case "fork": // a number of children, until it fails
		n, _ := strconv.Atoi(argument)
		made := 0
		for ; made < n; made++ {
			if _, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{}); err != nil {
				break
			}
		}
		fmt.Println(made)
	case "touch": // bytes of memory
		n, _ := strconv.Atoi(argument)
		memory, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		for i := 0; err == nil && i < n; i += os.Getpagesize() {
			memory[i] = 1
		}
		fmt.Println("touched", err)
	case "open":
		f, err := os.OpenFile(argument, os.O_RDWR, 0)
		f.Close()
		fmt.Println(errors.Is(err, unix.EPERM))
	}
	time.Sleep(time.Minute)
}

// child is a process that waits to be told to begin.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	end chan syscall.Signal // gets the signal that ended it, and is closed
}

// patience is for what takes a moment.
const patience = 10 * time.Second

// start starts a child, inside of a group if one is given.
func start(t testing.TB, what string, inside *Group) child {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	cmd.Stderr = os.Stderr
	if inside != nil {
		dir, ok := inside.Fd()
		if !ok {
			t.Fatal("the group has no directory")
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := child{cmd, in, bufio.NewReader(out), make(chan syscall.Signal, 1)}
	go func() {
		defer close(c.end)
		state, err := cmd.Process.Wait() // cmd.Wait would close what is still being read
		if err == nil {
			c.end <- state.Sys().(syscall.WaitStatus).Signal()
		}
	}()
	t.Cleanup(func() {
		c.kill(t)
		in.Close()
		out.Close()
	})
	return c
}

func (c child) pid() int { return c.cmd.Process.Pid }

// begin lets the child do what it is for.
func (c child) begin() { io.WriteString(c.in, "\n") }

// answer is the line that the child prints, empty if it ended without one.
func (c child) answer() string {
	line, _ := c.out.ReadString('\n')
	return strings.TrimSpace(line)
}

// ended waits for the child's end and returns by which signal.
func (c child) ended(t testing.TB) syscall.Signal {
	t.Helper()
	select {
	case signal := <-c.end:
		return signal
	case <-time.After(patience): // it may be frozen, and must not hold up those that clean up
		t.Errorf("process %d has not ended", c.pid())
		return 0
	}
}

// kill ends the child from outside of its group.
func (c child) kill(t testing.TB) {
	t.Helper()
	c.cmd.Process.Kill()
	c.ended(t)
}

// attach starts a child in a group.
func attach(t testing.TB, g *Group, what string) child {
	t.Helper()
	c := start(t, what, nil)
	if err := g.Attach(c.pid()); err != nil {
		t.Fatal(err)
	}
	return c
}

var instances int

const testParentPrefix = "tine-test-"

// testParent is the parent of the groups of this run.
func testParent() string { return testParentPrefix + strconv.Itoa(os.Getpid()) }

// sweepTests removes what tests left that ended before they could do so. (Their
// timeout is a panic.)
func sweepTests() {
	for _, withoutHybrid := range []bool{false, true} {
		tree, err := findTree(withoutHybrid)
		if err != nil || os.Geteuid() != 0 {
			return
		}
		for _, name := range groupsIn(tree.core) {
			pid, isTests := strings.CutPrefix(name, testParentPrefix)
			if !isTests || exists("/proc", pid) {
				continue
			}
			dead := &Manager{tree: tree, parent: name, log: slog.New(slog.DiscardHandler)}
			err := dead.Sweep(context.Background(), func(string) bool { return false })
			for _, point := range tree.hierarchies() {
				err = errors.Join(err, remove(context.Background(), filepath.Join(point, name)))
			}
			fmt.Fprintln(os.Stderr, "removed the groups of a dead test:", name, err)
		}
	}
}

// open makes a manager on the machine's own control groups. All that is below
// its parent is removed at the end of the test.
func open(t testing.TB, options Options) *Manager {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make control groups")
	}
	instances++
	options.Parent, options.Instance = testParent(), "i"+strconv.Itoa(instances)
	m, err := Open(options)
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EBUSY) {
		t.Skip("control groups cannot be made here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		for _, point := range m.tree.hierarchies() {
			if exists(point, m.parent, m.instance) {
				t.Errorf("%s/%s is left", point, m.group())
			}
		}
	})
	return m
}

// inAllModes runs a test for each way in which this machine's control groups
// can be used.
func inAllModes(t *testing.T, test func(t *testing.T, m *Manager)) {
	seen := map[Mode]bool{}
	for _, withoutHybrid := range []bool{false, true} {
		m := open(t, Options{withoutHybrid: withoutHybrid})
		if seen[m.Mode()] {
			continue
		}
		seen[m.Mode()] = true
		t.Run(m.Mode().String(), func(t *testing.T) { test(t, m) })
	}
}

func create(t testing.TB, m *Manager, name string) *Group {
	t.Helper()
	g, err := m.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// eventually waits for something that takes a moment.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
