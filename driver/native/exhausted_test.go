//go:build linux

package native_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native"
	"github.com/tinefn/tine/driver/native/sandbox"
)

// patience is for what takes a moment.
const patience = 10 * time.Second

// holdings are what this process and the kernel have of sandboxes: open files,
// child processes, control groups and interfaces.
func holdings(t *testing.T, parent, bridge string) (all []string) {
	t.Helper()
	for _, list := range []string{"/proc/self/fd/*", "/proc/self/task/*/children", "/sys/fs/cgroup/" + parent + "/*/*", "/sys/fs/cgroup/*/" + parent + "/*/*", "/sys/class/net/" + bridge + "/brif/*"} {
		found, err := filepath.Glob(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			switch {
			case strings.HasPrefix(list, "/proc/self/fd"):
				if target, err := os.Readlink(path); err == nil {
					all = append(all, "open file: "+strings.TrimRight(target, "0123456789]"))
				}
			case strings.HasSuffix(list, "children"):
				text, _ := os.ReadFile(path)
				for range strings.Fields(string(text)) {
					all = append(all, "process")
				}
			default:
				if info, err := os.Stat(path); err == nil && info.IsDir() {
					all = append(all, filepath.Dir(path)+"/*")
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// checkHoldings makes sure that holdings sees what a sandbox has.
func checkHoldings(t *testing.T, d driver.Driver, parent, bridge string) {
	t.Helper()
	specs++
	c, err := d.Create(t.Context(), &driver.Spec{ID: "box-" + strconv.Itoa(specs), Image: testImage})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(holdings(t, parent, bridge), "\n")
	for _, kind := range []string{"process\n", "/sys/fs/cgroup/", "/sys/class/net/", "open file: anon_inode:[pidfd"} {
		if !strings.Contains(text+"\n", kind) {
			t.Errorf("no %q is seen, so this shows nothing:\n%s", kind, text)
		}
	}
	if err := c.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// awaitHoldings waits until there is nothing that was not there before, and returns
// what there is: some of what was there may have been about to go.
func awaitHoldings(t *testing.T, what, parent, bridge string, before []string) (after []string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		after = holdings(t, parent, bridge)
		known, more := slices.Clone(before), false
		for _, held := range after {
			if i := slices.Index(known, held); i >= 0 {
				known = slices.Delete(known, i, i+1)
			} else {
				more = true
			}
		}
		if !more {
			return after
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: (-before +after)\n%s", what, cmp.Diff(before, after))
		}
	}
}

var specs int

// run starts one container and removes it.
func run(ctx context.Context, d driver.Driver) error {
	specs++
	c, err := d.Create(ctx, &driver.Spec{ID: "box-" + strconv.Itoa(specs), Image: testImage, Limits: driver.Limits{MemoryBytes: 64 << 20, Processes: 50}})
	if err != nil {
		return err
	}
	return errors.Join(c.Start(ctx), c.Remove(context.WithoutCancel(ctx)))
}

// scarce opens a driver on a bridge of its own, with the parent of its groups.
func scarce(t *testing.T, parent string, change func(*native.Options)) (d *native.Driver, bridge string) {
	t.Helper()
	bridge = "tine-x" + strconv.Itoa(os.Getpid()%100000)
	d = open(t, func(o *native.Options) {
		o.Parent, o.Network.Bridge, o.Network.Subnet = parent, bridge, subnet(24)
		if change != nil {
			change(o)
		}
	})
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return d, bridge
}

// subnet is one that another run of the tests at the same time hardly has.
func subnet(bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 84, byte(os.Getpid()), 0}), bits) //nolint:gosec // the last byte of it
}

func testParent() string { return fmt.Sprintf("tine-test-%d", os.Getpid()) }

// twoSandboxes leaves ids for two sandboxes, so that it shows when one keeps some.
func twoSandboxes(o *native.Options) {
	o.FirstID = 1 << 30
	o.LastID = o.FirstID + 2*sandbox.IDsPerSandbox - 1
}

func TestNoOpenFileLeft(t *testing.T) {
	d, bridge := scarce(t, testParent(), twoSandboxes)
	if err := run(t.Context(), d); err != nil { // and what is opened once is open
		t.Fatal(err)
	}
	checkHoldings(t, d, testParent(), bridge)
	fillGaps(t)
	before := holdings(t, testParent(), bridge)
	var usual unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &usual); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for more := range 60 {
		limit := usual
		limit.Cur = highestFile(t) + 1 + uint64(more)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		err := run(t.Context(), d)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &usual); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			break
		}
		failed++
		if !errors.Is(err, driver.ErrExhausted) || !strings.Contains(err.Error(), "ulimit -n") {
			t.Errorf("with room for %d more files: %v", more, err)
		}
		t.Logf("%d more: %v", more, err)
		before = awaitHoldings(t, fmt.Sprintf("with room for %d more files (%v)", more, err), testParent(), bridge, before)
	}
	if failed < 5 {
		t.Errorf("it failed %d times only, so this shows little", failed)
	}
	if err := run(t.Context(), d); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// fillGaps sees to it that the next file gets a number above all others.
func fillGaps(t *testing.T) {
	t.Helper()
	for last := highestFile(t); ; {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if uint64(fd) >= last {
			return
		}
	}
}

func highestFile(t *testing.T) (highest uint64) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if n, err := strconv.ParseUint(entry.Name(), 10, 32); err == nil {
			highest = max(highest, n)
		}
	}
	return highest
}

func TestNoUserIDsLeft(t *testing.T) {
	d, _ := scarce(t, testParent(), func(o *native.Options) {
		twoSandboxes(o)
		o.Users = native.UsersOwn
	})
	var held []driver.Container
	for range 2 {
		specs++
		c, err := d.Create(t.Context(), &driver.Spec{ID: "box-" + strconv.Itoa(specs), Image: testImage})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if err := run(t.Context(), d); !errors.Is(err, driver.ErrExhausted) || !strings.Contains(err.Error(), "FN_SANDBOX_IDS") {
		t.Errorf("got %v", err)
	}
	for _, c := range held {
		if err := c.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := run(t.Context(), d); err != nil {
		t.Errorf("when there are some again: %v", err)
	}
}

func TestNoAddressLeft(t *testing.T) {
	for name, pool := range map[string]native.Pool{"no pool": {}, "pool": {Min: 2, Max: 10}} {
		t.Run(name, func(t *testing.T) {
			d, _ := scarce(t, testParent(), func(o *native.Options) {
				o.Pool, o.Network.Subnet = pool, subnet(29)
			})
			var held []driver.Container
			for {
				specs++
				c, err := d.Create(t.Context(), &driver.Spec{ID: "box-" + strconv.Itoa(specs), Image: testImage})
				if err != nil {
					if !errors.Is(err, driver.ErrExhausted) || !strings.Contains(err.Error(), "FN_SANDBOX_SUBNET") {
						t.Error(err)
					}
					break
				}
				held = append(held, c)
			}
			if len(held) == 0 || len(held) > 5 {
				t.Fatalf("%d containers on 5 addresses", len(held))
			}
			for _, c := range held {
				if err := c.Remove(t.Context()); err != nil {
					t.Error(err)
				}
			}
			for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // pairs go in the background
				err := run(t.Context(), d)
				if err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestNoTimeLeft(t *testing.T) {
	d, bridge := scarce(t, testParent(), func(o *native.Options) { o.MakeTimeout = time.Nanosecond })
	_ = run(t.Context(), d) // what is opened once is open
	before := holdings(t, testParent(), bridge)
	for range 3 {
		err := run(t.Context(), d)
		if !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		before = awaitHoldings(t, fmt.Sprint(err), testParent(), bridge, before)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, d); !errors.Is(err, context.Canceled) || errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("whoever asked has left: %v", err)
	}
}

// limitedVariable makes this program the process under test of TestNoProcessLeft.
const limitedVariable = "TINE_TEST_NATIVE_LIMITED"

// pidsGroup is a group with a limit of processes, of version 1 or 2.
func pidsGroup(t *testing.T, name string) string {
	t.Helper()
	point, err := cgroups.FindCgroupMountpoint("", "pids")
	if cgroups.IsCgroup2UnifiedMode() {
		point, err = "/sys/fs/cgroup", nil
	}
	if err != nil {
		t.Skip("there is no controller for the number of processes: ", err)
	}
	return filepath.Join(point, name)
}

// TestNoProcessLeft limits the processes of a server and all of its sandboxes. That
// is done to a process apart, as Go's runtime ends one that gets no thread.
func TestNoProcessLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("control groups need root")
	}
	if name := os.Getenv(limitedVariable); name != "" {
		runLimited(t, name)
		return
	}
	name := testParent() + "-limited"
	group := pidsGroup(t, name)
	if err := os.MkdirAll(filepath.Join(group, "server"), 0o755); err != nil {
		t.Skip("control groups cannot be made here: ", err)
	}
	t.Cleanup(func() {
		for _, pattern := range []string{"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name} {
			found, _ := filepath.Glob(pattern)
			for _, dir := range found {
				_ = os.Remove(filepath.Join(dir, "server"))
				if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
		}
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestNoProcessLeft$", "-test.v")
	cmd.Env = append(os.Environ(), limitedVariable+"="+name)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestNoProcessLeft") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func runLimited(t *testing.T, name string) {
	group := pidsGroup(t, name)
	if err := os.WriteFile(filepath.Join(group, "server", "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		t.Fatal(err)
	}
	d, bridge := scarce(t, name+"/boxes", twoSandboxes)
	for range 3 {
		if err := run(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	spareThreads()
	checkHoldings(t, d, name+"/boxes", bridge)
	before := holdings(t, name+"/boxes", bridge)
	failed := 0
	for more := range 60 {
		setPids(t, group, strconv.Itoa(processes(t, group)+more))
		err := run(t.Context(), d)
		setPids(t, group, "max")
		if err == nil {
			break
		}
		failed++
		if !errors.Is(err, driver.ErrExhausted) || !strings.Contains(err.Error(), "pids.max") {
			t.Errorf("with room for %d more: %v", more, err)
		}
		t.Logf("%d more: %v", more, err)
		before = awaitHoldings(t, fmt.Sprintf("with room for %d more (%v)", more, err), name+"/boxes", bridge, before)
	}
	if failed < 2 {
		t.Errorf("it failed %d times only, so this shows little", failed)
	}
	if err := run(t.Context(), d); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// spareThreads makes threads that the runtime keeps, so that it needs no others.
func spareThreads() {
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			_ = unix.Nanosleep(&unix.Timespec{Nsec: int64(50 * time.Millisecond)}, nil)
		})
	}
	wg.Wait()
}

// processes counts the threads in a group and those below it, as the kernel does.
func processes(t *testing.T, group string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(group, "pids.current"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func setPids(t *testing.T, group, limit string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(group, "pids.max"), []byte(limit), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A full disk is no fault of the image.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		t.Skip("it takes root to mount a small disk")
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	image := serveImage(t)
	d, err := native.New(native.Options{Dir: dir, Parent: testParent()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	_, err = d.EnsureImage(t.Context(), driver.ImageRequest{Name: image})
	if !errors.Is(err, driver.ErrExhausted) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=400m"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: image}); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// serveImage puts the test image into a registry and returns its name there.
func serveImage(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	made, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	image := strings.TrimPrefix(server.URL, "http://") + "/" + testImage
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, made); err != nil {
		t.Fatal(err)
	}
	return image
}
