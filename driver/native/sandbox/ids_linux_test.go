package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver/native/job"
)

func TestNoTwoSandboxesShareIDs(t *testing.T) {
	const slots = 5
	r, err := NewRange(1000, 1000+slots*IDsPerSandbox+IDsPerSandbox-2) // the last are too few
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu   sync.Mutex
		held = map[uint32]bool{}
		wg   sync.WaitGroup
	)
	for range slots {
		wg.Go(func() {
			for range 200 {
				ids, err := r.Take()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if held[ids.First] || ids.First < 1000 || (ids.First-1000)%IDsPerSandbox != 0 || ids.First >= 1000+slots*IDsPerSandbox {
					t.Errorf("ids from %d", ids.First)
				}
				held[ids.First] = true
				mu.Unlock()

				mu.Lock()
				delete(held, ids.First)
				mu.Unlock()
				r.Give(ids)
			}
		})
	}
	wg.Wait()
	var last IDs
	for range slots {
		if last, err = r.Take(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Take(); !errors.Is(err, ErrNoIDs) || !strings.Contains(err.Error(), "FN_SANDBOX_IDS") {
		t.Errorf("one too many: %v", err)
	}
	r.Give(IDs{}) // nothing
	r.Give(last)
	if again, err := r.Take(); err != nil || again != last {
		t.Errorf("got %v, %v", again, err)
	}
}

func TestRangeOfTooFewIDsIsRefused(t *testing.T) {
	for _, ids := range [][2]uint32{{0, 1 << 20}, {1000, 1000 + IDsPerSandbox - 2}, {1000, 1}, {0, 0}} {
		if _, err := NewRange(ids[0], ids[1]); err == nil {
			t.Errorf("%v is accepted", ids)
		}
	}
	r, err := NewRange(DefaultFirstID, DefaultLastID)
	if err != nil || r.slots < 4000 {
		t.Errorf("the default has room for %+v, %v", r, err)
	}
}

// owner is what the host sees of a file.
func owner(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

// ownedLayers are layers with a file that is its owner's alone.
func ownedLayers(t *testing.T) []string {
	t.Helper()
	dirs := layers(t)
	secret := filepath.Join(dirs[0], "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(secret, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	return dirs
}

func TestUsersOfASandboxAreNobodyElse(t *testing.T) {
	box := spawn(t, newSpawner(t), IDs{First: DefaultFirstID + IDsPerSandbox})
	dirs := ownedLayers(t)
	files := Files{}
	var err error
	if files.Root, err = box.Overlay(dirs); err != nil {
		t.Fatal(err)
	}
	defer files.Root.Close()
	if err := box.Run(deadline(t), runs("sleep"), files); err != nil {
		t.Fatal(err)
	}
	proc := filepath.Join("/proc", itoa(box.PID))
	const first = DefaultFirstID + IDsPerSandbox
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		t.Fatal(err)
	}
	if line := fmt.Sprintf("Uid:\t%d\t%d\t%d\t%d\n", first+1000, first+1000, first+1000, first+1000); !strings.Contains(string(status), line) {
		t.Errorf("it is\n%s", status)
	}
	if got := owner(t, filepath.Join(proc, "root", "secret")); got != first+1000 {
		t.Errorf("what belongs to 1000 in the image belongs to %d", got)
	}
	if got := owner(t, filepath.Join(proc, "root", "function")); got != first {
		t.Errorf("what belongs to 0 in the image belongs to %d", got)
	}
	if got := owner(t, filepath.Join(dirs[0], "secret")); got != 1000 {
		t.Errorf("the image on disk has changed: %d", got)
	}
}

func TestWhatIsWrittenBelongsToTheSandbox(t *testing.T) {
	box := spawn(t, newSpawner(t), IDs{First: DefaultFirstID})
	dir := t.TempDir()
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o700)); err != nil {
		t.Fatal(err)
	}
	root, err := box.WritableOverlay(ownedLayers(t), upper, work)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if got := owner(t, upper); got != DefaultFirstID {
		t.Errorf("the root directory belongs to %d", got)
	}
	todo := &job.Job{Args: []string{"/function/func", "write", "/secret", "y"}, UID: 1000, GID: 1000, Host: "box", NoTmp: true}
	if err := box.Run(deadline(t), todo, Files{Root: root}); err != nil {
		t.Fatal(err)
	}
	if status := await(t, box); status.Code != 0 {
		t.Fatalf("it cannot write its own file: %s", output(t, box.Stderr))
	}
	if got := owner(t, filepath.Join(upper, "secret")); got != DefaultFirstID+1000 {
		t.Errorf("what it wrote belongs to %d", got)
	}
}

// TestOlderKernels tries the ways in which layers were told to older kernels, which
// this one knows as well.
func TestOlderKernels(t *testing.T) {
	box := spawn(t, newSpawner(t), IDs{First: DefaultFirstID})
	dirs := ownedLayers(t)
	for name, mount := range map[string]func() (*os.File, error){
		"mapped layers that have a place": func() (*os.File, error) {
			mapped, closeAll, err := box.mapped(dirs)
			defer closeAll()
			if err != nil {
				return nil, err
			}
			return overlayOfAttached(mapped, "", "")
		},
		"all paths at once": func() (*os.File, error) { return overlayByMount(dirs, "", "") },
	} {
		t.Run(name, func(t *testing.T) {
			before := mounts(t)
			root, err := mount()
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d/secret", root.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 1000 && uid != DefaultFirstID+1000 {
				t.Errorf("a file belongs to %d", uid)
			}
			if err := root.Close(); err != nil {
				t.Fatal(err)
			}
			if after := mounts(t); after != before {
				t.Errorf("it leaves mounts:\n%s", after)
			}
		})
	}
}

func mounts(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "tine-layers-") || strings.Contains(line, "tine-mount-") {
			ours = append(ours, line)
		}
	}
	return strings.Join(ours, "")
}

// TestProgramMayBeWhereNobodyElseMayLook is for a server in the home directory of
// root: who is root in a sandbox alone may not even look into that.
func TestProgramMayBeWhereNobodyElseMayLook(t *testing.T) {
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "closed")
	path := filepath.Join(dir, "init")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, program, 0o755)); err != nil {
		t.Fatal(err)
	}
	s, err := NewSpawner(path, []string{SelfArg})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := Try(deadline(t), s, IDs{First: DefaultFirstID}, layers(t)); err != nil {
		t.Error(err)
	}
}
