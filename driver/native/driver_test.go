//go:build linux

package native_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/drivertest"
	"github.com/tinefn/tine/driver/native"
	"github.com/tinefn/tine/driver/native/sandbox"
	"github.com/tinefn/tine/driver/native/sandboxinit"
	"github.com/tinefn/tine/test/image"
)

// archive is an image of the test function, as docker save writes it, and
// brokenArchive one whose program is not in it.
var archive, brokenArchive []byte

const (
	testImage   = "tine-test/testfn:1"
	brokenImage = "tine-test/broken:1"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 0 && os.Args[0] == sandbox.SelfArg {
		sandboxinit.Main()
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	program, err := image.CompileTestFn()
	if err != nil {
		panic(err)
	}
	archive = mustPack(program, programPath, testImage)
	brokenArchive = mustPack(program, "/nothing", brokenImage)
	return m.Run()
}

func mustPack(program []byte, entrypoint, name string) []byte {
	made, err := imageStarting(program, entrypoint)
	if err != nil {
		panic(err)
	}
	packed, err := pack(made, name)
	if err != nil {
		panic(err)
	}
	return packed
}

// imageOf makes an image of a program, which it starts.
func imageOf(program []byte) (v1.Image, error) { return imageStarting(program, programPath) }

// programPath is where images have their program.
const programPath = "/function/func"

// imageStarting makes an image of a program that starts what is at a path.
func imageStarting(program []byte, entrypoint string) (v1.Image, error) {
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	for _, entry := range []struct {
		header  tar.Header
		content []byte
	}{
		{tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		{tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0::/:/\nfn:x:1000:1000::/function:/\n")},
		{tar.Header{Name: "function/", Typeflag: tar.TypeDir, Mode: 0o755}, nil},
		{tar.Header{Name: "function/func", Mode: 0o755}, program},
	} {
		entry.header.Size = int64(len(entry.content))
		if err := w.WriteHeader(&entry.header); err != nil {
			return nil, err
		}
		if _, err := w.Write(entry.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	made, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := made.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Entrypoint, config.Config.WorkingDir = []string{entrypoint}, "/function"
	return mutate.ConfigFile(made, config)
}

// pack makes an archive of an image under names.
func pack(made v1.Image, names ...string) ([]byte, error) {
	tagged := map[name.Tag]v1.Image{}
	for _, text := range names {
		tag, err := name.NewTag(text)
		if err != nil {
			return nil, err
		}
		tagged[tag] = made
	}
	var out bytes.Buffer
	err := tarball.MultiWrite(tagged, &out)
	return out.Bytes(), err
}

// open makes a driver that has the test function's image. The caller closes it.
func open(t testing.TB, change func(*native.Options)) *native.Driver {
	t.Helper()
	d := openEmpty(t, change)
	if err := d.ImportImages(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	return d
}

// openWithBroken makes one that has the image without a program too.
func openWithBroken(t testing.TB, change func(*native.Options)) *native.Driver {
	t.Helper()
	d := open(t, change)
	if err := d.ImportImages(t.Context(), bytes.NewReader(brokenArchive)); err != nil {
		t.Fatal(err)
	}
	return d
}

// openEmpty makes a driver without any image. The caller closes it.
func openEmpty(t testing.TB, change func(*native.Options)) *native.Driver {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("sandboxes need root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	opts := native.Options{Dir: t.TempDir(), Parent: fmt.Sprintf("tine-test-%d", os.Getpid()), Init: self, InitArgs: []string{sandbox.SelfArg}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&opts)
	}
	d, err := native.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func images() drivertest.Images {
	return drivertest.Images{Program: testImage, Missing: "127.0.0.1:1/tine-test/absent:1", Broken: brokenImage, Seccomp: true}
}

func TestDriverConforms(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) driver.Driver { return openWithBroken(t, nil) }, images())
}

func TestDriverWithPoolConforms(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) driver.Driver {
		return openWithBroken(t, func(o *native.Options) { o.Pool = native.Pool{Min: 2, Max: 50} })
	}, images())
}

func TestContainersAreHardened(t *testing.T) {
	for name, users := range map[string]native.Users{"own users": native.UsersOwn, "host's users": native.UsersHost} {
		t.Run(name, func(t *testing.T) {
			drivertest.RunHardening(t, func(t *testing.T) driver.Driver {
				return open(t, func(o *native.Options) { o.Users = users })
			}, images())
		})
	}
}

// TestUsersThatCannotBe has a program that only root of the machine may execute, as
// whoever is root in a sandbox alone must not.
func TestUsersThatCannotBe(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(path, program, 0o700); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	var log bytes.Buffer
	closed := func(users native.Users) func(o *native.Options) {
		return func(o *native.Options) {
			o.Init, o.Users, o.Logger = path, users, slog.New(slog.NewTextHandler(&log, nil))
		}
	}
	d := open(t, closed(native.UsersAuto))
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "no users of their own") {
		t.Errorf("log:\n%s", log.String())
	}
	opts := native.Options{Dir: t.TempDir(), InitArgs: []string{sandbox.SelfArg}}
	closed(native.UsersOwn)(&opts)
	if _, err := native.New(opts); err == nil || !strings.Contains(err.Error(), "FN_SANDBOX_USERS") {
		t.Errorf("got %v", err)
	}
}

// TestImagesUser runs an image's program as its user where functions need not be
// unprivileged, and as theirs otherwise.
func TestImagesUser(t *testing.T) {
	program, err := image.CompileTestFn()
	if err != nil {
		t.Fatal(err)
	}
	made, err := imageOf(program)
	if err != nil {
		t.Fatal(err)
	}
	config, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.User = "fn:20"
	if made, err = mutate.ConfigFile(made, config); err != nil {
		t.Fatal(err)
	}
	const named = "tine-test/user:1"
	archive, err := pack(made, named)
	if err != nil {
		t.Fatal(err)
	}
	d := openEmpty(t, nil)
	defer d.Close(context.WithoutCancel(t.Context()))
	if err := d.ImportImages(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	for unprivileged, gid := range map[bool]int{true: 1000, false: 20} {
		var out lockedBuffer
		c, err := d.Create(t.Context(), &driver.Spec{
			ID: fmt.Sprintf("user-%d", gid), Image: named, Command: []string{"inspect"}, Stdout: &out,
			Security: driver.Security{Unprivileged: unprivileged, ReadOnlyRoot: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if err := c.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		var seen struct {
			UID, GID    int
			Environment map[string]string
		}
		if err := json.Unmarshal(out.Bytes(), &seen); err != nil || seen.UID != 1000 || seen.GID != gid || seen.Environment["HOME"] != "/function" {
			t.Errorf("unprivileged %v: %v\n%s", unprivileged, err, out.Bytes())
		}
	}
}

// TestFewOpenFiles has a limit that is below what a sandbox's first process needs.
func TestFewOpenFiles(t *testing.T) {
	d := open(t, nil)
	defer d.Close(context.WithoutCancel(t.Context()))
	for _, init := range []bool{false, true} {
		const most = 16
		var out lockedBuffer
		c, err := d.Create(t.Context(), &driver.Spec{
			ID: fmt.Sprintf("few-files-%v", init), Image: testImage, Command: []string{"inspect"}, Stdout: &out, Stderr: &out,
			Security: driver.Security{Unprivileged: true, ReadOnlyRoot: true, Init: init}, Limits: driver.Limits{OpenFiles: most},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Errorf("init %v: %v", init, err)
		} else if _, err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if err := c.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		var seen struct{ Rlimits map[string][2]uint64 }
		if err := json.Unmarshal(out.Bytes(), &seen); err != nil || seen.Rlimits["nofile"] != [2]uint64{most, most} {
			t.Errorf("init %v: %v\n%s", init, err, out.Bytes())
		}
	}
}

// lockedBuffer is a buffer for output.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.Buffer.Bytes())
}
