package docker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/cgroupfs"
)

// testID is an identifier as engines make them.
const testID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// The mounts of the tests, in the format of mountinfo.
const (
	mountV2     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	mountHybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n" +
		"37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n" +
		"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)

// tree writes files below a new directory. Those of a control group look like
// in a running container.
func tree(t *testing.T, mountinfo, memberships string, groups ...string) (root string) {
	t.Helper()
	root = t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/self/mountinfo", mountinfo)
	write("proc/42/cgroup", memberships)
	for _, group := range groups {
		if strings.Contains(group, "/freezer/") {
			write(filepath.Join(group, "freezer.state"), "THAWED\n")
			continue
		}
		write(filepath.Join(group, "cgroup.freeze"), "0\n")
		write(filepath.Join(group, "cgroup.events"), "populated 1\nfrozen 0\n")
	}
	return root
}

func read(t *testing.T, root, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

func TestControlGroupIsFound(t *testing.T) {
	tests := map[string]struct {
		mounts, memberships, group, file string
	}{
		"v2, engine's own layout": {mountV2, "0::/docker/" + testID + "\n", "/sys/fs/cgroup/docker/" + testID, "cgroup.freeze"},
		"v2, systemd": {
			mountV2, "0::/system.slice/docker-" + testID + ".scope\n",
			"/sys/fs/cgroup/system.slice/docker-" + testID + ".scope", "cgroup.freeze",
		},
		"v2, process in a group of its own below": {
			mountV2, "0::/docker/" + testID + "/init.scope\n", "/sys/fs/cgroup/docker/" + testID, "cgroup.freeze",
		},
		"v1 before v2": {
			mountHybrid, "7:cpu:/docker/" + testID + "\n6:freezer:/docker/" + testID + "\n0::/docker/" + testID + "\n",
			"/sys/fs/cgroup/freezer/docker/" + testID, "freezer.state",
		},
		"v1 has no such group, v2 has": {
			mountHybrid, "6:freezer:/\n0::/docker/" + testID + "\n", "/sys/fs/cgroup/unified/docker/" + testID, "cgroup.freeze",
		},
		"controllers mounted together": {
			"37 31 0:34 / /cg/freezer/x rw - cgroup cgroup rw,pids,freezer\n", "6:pids,freezer:/docker/" + testID + "\n",
			"/cg/freezer/x/docker/" + testID, "freezer.state",
		},
		"part of the hierarchy, blanks in the path": {
			`37 31 0:34 /outer /cg\040roup rw - cgroup2 none rw` + "\n", "0::/outer/docker/" + testID + "\n",
			"/cg roup/docker/" + testID, "cgroup.freeze",
		},
		"the second mount shows it": {
			"36 31 0:34 /elsewhere /a rw - cgroup2 none rw\n37 31 0:34 / /b rw - cgroup2 none rw\n", "0::/docker/" + testID + "\n",
			"/b/docker/" + testID, "cgroup.freeze",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := tree(t, tt.mounts, tt.memberships, tt.group)
			group, err := (&cgroups{root: root}).find(42, testID)
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(root, tt.group, tt.file); group.Control() != want {
				t.Errorf("control %s, want %s", group.Control(), want)
			}
		})
	}
}

func TestControlGroupBesideTheLastOne(t *testing.T) {
	next, absent := strings.Repeat("e", 64), strings.Repeat("f", 64)
	for name, format := range map[string]string{"engine's own layout": "docker/%s", "systemd": "system.slice/docker-%s.scope"} {
		t.Run(name, func(t *testing.T) {
			group := func(id string) string { return "sys/fs/cgroup/" + fmt.Sprintf(format, id) }
			root := tree(t, mountV2, "0::/"+fmt.Sprintf(format, testID)+"\n", group(testID), group(next))
			c := &cgroups{root: root}
			if found := c.beside(next); found != nil {
				t.Errorf("beside none: %+v", found)
			}
			if _, err := c.find(42, testID); err != nil {
				t.Fatal(err)
			}
			if found, want := c.beside(next), filepath.Join(root, group(next), "cgroup.freeze"); found == nil || found.Control() != want {
				t.Errorf("found %+v, want %s", found, want)
			}
			for _, id := range []string{absent, ""} {
				if found := c.beside(id); found != nil {
					t.Errorf("%q: found %+v", id, found)
				}
			}
		})
	}
}

// In these cases the files of some group could be written, and must not be.
func TestControlGroupThatIsNotSurelyTheContainersIsNotUsed(t *testing.T) {
	other := strings.Repeat("f", 64)
	tests := map[string]struct {
		mounts, memberships, group string
		id                         string
	}{
		"another container's process": {mountV2, "0::/docker/" + other + "\n", "/sys/fs/cgroup/docker/" + other, testID},
		"no container's process":      {mountV2, "0::/\n", "/sys/fs/cgroup", testID},
		"outside of the namespace":    {mountV2, "0::/../" + testID + "\n", "/sys/fs/cgroup/" + testID, testID},
		"mount of another namespace": {
			"30 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 none rw\n", "0::/docker/" + testID + "\n", "/sys/fs/cgroup/docker/" + testID, testID,
		},
		"server in a container, sees its own part": {
			"30 23 0:26 /docker/" + other + " /sys/fs/cgroup rw - cgroup2 none rw\n", "0::/docker/" + testID + "\n",
			"/sys/fs/cgroup/docker/" + testID, testID,
		},
		"mount of a group with a longer name": {
			"30 23 0:26 /doc /sys/fs/cgroup rw - cgroup2 none rw\n", "0::/docker/" + testID + "\n", "/sys/fs/cgroup/ker/" + testID, testID,
		},
		"identifier within a name":     {mountV2, "0::/docker/x" + testID + "\n", "/sys/fs/cgroup/docker/x" + testID, testID},
		"group that is gone":           {mountV2, "0::/docker/" + testID + " (deleted)\n", "/sys/fs/cgroup/docker/" + testID + " (deleted)", testID},
		"nothing mounted":              {"", "0::/docker/" + testID + "\n", "/sys/fs/cgroup/docker/" + testID, testID},
		"group is not there":           {mountV2, "0::/docker/" + testID + "\n", "/sys/fs/cgroup/docker/" + other, testID},
		"identifier is empty":          {mountV2, "0::/docker/.scope\n", "/sys/fs/cgroup/docker/.scope", ""},
		"other hierarchy's membership": {mountV2, "1:cpu:/docker/" + testID + "\n", "/sys/fs/cgroup/docker/" + testID, testID},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := tree(t, tt.mounts, tt.memberships, tt.group)
			if group, err := (&cgroups{root: root}).find(42, tt.id); err == nil {
				t.Errorf("found %+v", group)
			}
		})
	}
	if group, err := (&cgroups{root: t.TempDir()}).find(42, testID); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without /proc: %+v, %v", group, err)
	}
}

func TestMountsOnlyFreezersCount(t *testing.T) {
	text := mountHybrid + "broken\n1 2 0:1 / /x rw - cgroup cgroup rw,cpu\n1 2 0:1 / relative rw - cgroup2 none rw\n1 2 - cgroup2\n"
	want := []cgroupMount{{cgroupfs.V1, "/", "/sys/fs/cgroup/freezer"}, {cgroupfs.V2, "/", "/sys/fs/cgroup/unified"}}
	if diff := cmp.Diff(want, parseMounts(text), cmp.AllowUnexported(cgroupMount{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Whatever the kernel's files say, a group that is used lies below a mount
// point and in an element that is named by the container's identifier.
func FuzzControlGroupStaysBelowItsMount(f *testing.F) {
	f.Add(mountHybrid, "6:freezer:/docker/"+testID+"\n0::/docker/"+testID+"\n")
	f.Add(mountV2, "0::/../"+testID+"\n")
	f.Add("30 23 0:26 /a /b rw - cgroup2 x rw\n", "0::/a/docker-"+testID+".scope/x\n")
	f.Fuzz(func(t *testing.T, mountinfo, memberships string) {
		for version, path := range parseMemberships(memberships) {
			group, ok := groupOf(path, testID)
			if !ok {
				continue
			}
			if !strings.HasPrefix(path, group) || !strings.Contains(filepath.Base(group), testID) {
				t.Fatalf("group %q of %q", group, path)
			}
			for _, mount := range parseMounts(mountinfo) {
				if mount.version != version {
					continue
				}
				below, ok := mount.see(group)
				if !ok {
					continue
				}
				full := filepath.Join(mount.point, below)
				if !strings.HasPrefix(full, mount.point) || !strings.Contains(filepath.Base(full), testID) {
					t.Fatalf("%q below %+v is %q", group, mount, full)
				}
			}
		}
	})
}
