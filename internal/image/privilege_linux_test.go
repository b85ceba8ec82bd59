package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// unprivileged makes the test binary unpack as nobody.
const unprivileged = "TINE_TEST_UNPRIVILEGED_DIR"

func unpackUnprivileged(dir string) error {
	archive, err := os.ReadFile(filepath.Join(dir, "archive"))
	if err != nil {
		return err
	}
	_, err = unpack(context.Background(), filepath.Join(dir, "root"), bytes.NewReader(archive), unpackOptions{limits: Limits{}.withDefaults()})
	return err
}

func TestUnpackWithoutPrivileges(t *testing.T) {
	needRoot(t)
	const nobody = 65534
	for name, e := range map[string]entry{"opaque": regular(".wh..wh..opq", ""), "owner": regular("x", "")} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("/tmp", "tine-nobody-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := errors.Join(
				os.WriteFile(filepath.Join(dir, "archive"), pack(t, e), 0o644), os.Mkdir(filepath.Join(dir, "root"), 0o755),
				os.Chown(filepath.Join(dir, "root"), nobody, nobody), os.Chmod(dir, 0o755),
			); err != nil {
				t.Fatal(err)
			}
			command := exec.Command("/proc/self/exe")
			command.Env = append(os.Environ(), unprivileged+"="+dir)
			command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			output, err := command.CombinedOutput()
			if err == nil || !strings.Contains(string(output), ErrPrivilege.Error()) {
				t.Errorf("got %v: %s", err, output)
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("no file system of a known size can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	registry := newRegistry(t)
	large := registry.push(t, imageOf(t, layerOf(t, pack(t, regular("zeros", string(make([]byte, 3<<20)))))), "fn/large:1")
	fits := registry.push(t, small(t, "1"), "fn/small:1")
	s := openStore(t, dir, Options{})
	mustPull(t, s, fits)
	for range 2 {
		_, err := s.Pull(t.Context(), large, PullOptions{})
		if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), DefaultSetting) {
			t.Fatalf("got %v", err)
		}
		checkTmp(t, s)
	}
	if lease, err := s.Acquire(fits); err != nil {
		t.Error(err)
	} else {
		lease.Release()
	}
	// Removing needs no room that is not there.
	rest, err := os.Create(filepath.Join(dir, "rest"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = rest.Write(make([]byte, 4096))
	}
	rest.Close()
	if got, err := s.Collect(t.Context(), CollectOptions{MaxBytes: 0}); err != nil || len(got.Images) != 1 {
		t.Errorf("collect: %+v %v", got, err)
	}
	if err := os.Remove(rest.Name()); err != nil {
		t.Fatal(err)
	}
	mustPull(t, s, fits)
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
}
