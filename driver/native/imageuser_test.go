//go:build linux

package native

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// rootWith is a root file system with files.
func rootWith(t *testing.T, files map[string]string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func TestUserIsTheImages(t *testing.T) {
	files := map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\nfn:x:1000:1000::/function:/\napp:x:2000:3000::/home/app:/bin/sh\nhuge:x:70000:1::/:/\n",
		"etc/group":  "staff:x:50:\nextra:x:4000:app\n",
	}
	for name, tt := range map[string]struct {
		unprivileged bool
		named        string
		files        map[string]string
		want         user.ExecUser
	}{
		"none is root":            {false, "", files, user.ExecUser{Home: "/root"}},
		"name":                    {false, "app", files, user.ExecUser{Uid: 2000, Gid: 3000, Sgids: []int{4000}, Home: "/home/app"}},
		"name and group":          {false, "app:staff", files, user.ExecUser{Uid: 2000, Gid: 50, Home: "/home/app"}},
		"number with an entry":    {false, "2000", files, user.ExecUser{Uid: 2000, Gid: 3000, Sgids: []int{4000}, Home: "/home/app"}},
		"number without":          {false, "1234", files, user.ExecUser{Uid: 1234, Home: "/"}},
		"numbers, no files":       {false, "5:6", nil, user.ExecUser{Uid: 5, Gid: 6, Home: "/"}},
		"functions' user":         {true, "app", files, user.ExecUser{Uid: 1000, Gid: 1000, Home: "/function"}},
		"functions' user, no one": {true, "app", nil, user.ExecUser{Uid: 1000, Gid: 1000, Home: "/"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := userOf(rootWith(t, tt.files), tt.unprivileged, tt.named)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Sgids) == 0 {
				got.Sgids = nil
			}
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	for _, named := range []string{"nobody-here", "app:no-group", "huge", "70000", "-1", "app:65536"} {
		if who, err := userOf(rootWith(t, files), false, named); !errors.Is(err, errUser) || !strings.Contains(err.Error(), named) {
			t.Errorf("%q: %v, %v", named, who, err)
		}
	}
}

// TestUserFilesCannotLeadOut has files of an image that are no files, or lead to the
// host's.
func TestUserFilesCannotLeadOut(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(outside, []byte("app:x:2000:3000::/outside:/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(path string) error{
		"absolute link":  func(path string) error { return os.Symlink(outside, path) },
		"link to itself": func(path string) error { return os.Symlink("passwd", path) },
		"link to proc":   func(path string) error { return os.Symlink("/proc/self/fd/0", path) },
		"FIFO":           func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory":      func(path string) error { return os.Mkdir(path, 0o700) },
		"no directory":   func(path string) error { return os.Remove(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			root := rootWith(t, nil)
			path := filepath.Join(root.Name(), "etc", "passwd")
			if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), put(path)); err != nil {
				t.Fatal(err)
			}
			if who, err := userOf(root, true, ""); err != nil || who.Home != "/" {
				t.Errorf("got %+v, %v", who, err)
			}
		})
	}
}
