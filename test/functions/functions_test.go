package functions

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// build makes an image, or skips or fails the test.
func build(t *testing.T, in Language, dir string) (ref, archive string) {
	t.Helper()
	ref, archive, err := Build(t.Context(), in, dir)
	if errors.Is(err, ErrMissing) && os.Getenv("TINE_TEST_KITS") != RequireKits {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ref, archive
}

func TestImageHasTheInterpreterAndTheFunction(t *testing.T) {
	for in, want := range map[Language][]string{
		Go:     {"function/func", "etc/passwd"},
		Node:   {"usr/bin/node", "function/func.js", "function/node_modules/@fnproject/fdk/fn-fdk.js", "etc/passwd"},
		Python: {"usr/bin/python3", "function/func.py", "function/serve.py", "etc/passwd"},
	} {
		t.Run(string(in), func(t *testing.T) {
			ref, archive := build(t, in, ExampleDir(in))
			made, err := tarball.ImageFromPath(archive, nil)
			if err != nil {
				t.Fatal(err)
			}
			config, err := made.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if config.OS != "linux" || config.Config.WorkingDir != "/function" || len(config.Config.Entrypoint) == 0 {
				t.Errorf("%s: %+v", ref, config)
			}
			files := mutate.Extract(made)
			defer files.Close()
			var got []string
			for archive := tar.NewReader(files); ; {
				header, err := archive.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, header.Name)
			}
			for _, name := range want {
				if !slices.Contains(got, name) {
					t.Errorf("%s is not in the image of %d files", name, len(got))
				}
			}
			info, err := os.Stat(archive)
			if err != nil {
				t.Fatal(err)
			}
			again, _ := build(t, in, ExampleDir(in))
			same, err := os.Stat(archive)
			if err != nil || again != ref || !same.ModTime().Equal(info.ModTime()) {
				t.Errorf("the same function was built again: %s, %s, %v", ref, again, err)
			}
		})
	}
}

func TestTreeIsPackedInOneWay(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "real"), []byte("1"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("absent", filepath.Join(dir, "broken")); err != nil {
		t.Fatal(err)
	}
	files := tree{"a/b/own": {bytes: []byte("own"), mode: 0o755}}
	if err := files.addDir(dir, func(name string) bool { return name != "real" }); err != nil {
		t.Fatal(err)
	}
	if err := files.addDir(filepath.Join(dir, "absent"), func(string) bool { return true }); err != nil {
		t.Error(err)
	}
	var first, second bytes.Buffer
	if err := errors.Join(files.writeTo(&first), files.writeTo(&second)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same tree was packed in two ways")
	}
	var got []string
	for archive := tar.NewReader(&first); ; {
		header, err := archive.Next()
		if err != nil {
			break
		}
		if !strings.HasSuffix(header.Name, "/") {
			raw, _ := io.ReadAll(archive)
			got = append(got, filepath.Base(header.Name)+" "+header.FileInfo().Mode().String()+" "+string(raw))
		}
	}
	if diff := cmp.Diff([]string{"own -rwxr-xr-x own", "link -rw-r----- 1"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhatCannotBeBuiltIsNamed(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, _, err := Build(t.Context(), "cobol", "x"); err == nil || !strings.Contains(err.Error(), "cobol") {
		t.Errorf("got %v", err)
	}
	if _, _, err := Build(t.Context(), Go, filepath.Join(t.TempDir(), "absent")); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("got %v", err)
	}
	t.Setenv("PATH", "")
	if _, err := lookUp("nodejs", "node"); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "apt-get install nodejs") {
		t.Errorf("got %v", err)
	}
}
