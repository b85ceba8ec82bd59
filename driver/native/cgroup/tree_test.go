//go:build linux

package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestDelegationOfVersion2(t *testing.T) {
	const all = "cpuset cpu io memory pids\n"
	type group struct{ present, enabled string }
	tests := map[string]struct {
		groups [3]group // the root, the parent, the instance
		orders [3]string
		want   string // in the error
	}{
		"nothing enabled": {
			[3]group{{all, ""}, {all, ""}, {all, ""}},
			[3]string{"+memory +cpu +pids", "+memory +cpu +pids", "+memory +cpu +pids"},
			"",
		},
		"some enabled": {
			[3]group{{all, "memory pids\n"}, {all, "cpu memory pids\n"}, {all, ""}},
			[3]string{"+cpu", "", "+memory +cpu +pids"},
			"",
		},
		"not there": {
			[3]group{{"cpu pids\n", ""}, {all, ""}, {all, ""}}, [3]string{}, "lacks the controllers memory",
		},
		"not delegated": {
			[3]group{{all, "cpu memory pids\n"}, {"memory\n", ""}, {all, ""}}, [3]string{}, "lacks the controllers cpu, pids",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dirs := []string{root, filepath.Join(root, "parent"), filepath.Join(root, "parent", "instance")}
			for i, dir := range dirs {
				put(t, dir, map[string]string{"cgroup.controllers": tt.groups[i].present, "cgroup.subtree_control": tt.groups[i].enabled})
			}
			err := delegate(root, "parent/instance")
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q in it", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, dir := range dirs {
				got, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
				want := tt.orders[i]
				if want == "" {
					want = tt.groups[i].enabled
				}
				if err != nil || !strings.HasPrefix(string(got), want) {
					t.Errorf("%s: %q, want %q, %v", dir, got, want, err)
				}
			}
		})
	}
}

func TestDirectoriesOfAGroup(t *testing.T) {
	tests := map[string]struct {
		tree tree
		own  []string
	}{
		"v2": {tree{mode: V2, core: "/c"}, []string{"/c/p/i/g"}},
		"hybrid": {
			tree{mode: Hybrid, core: "/u", v1: map[string]string{"memory": "/m", "cpu": "/cpu,cpuacct", "pids": "/p"}},
			[]string{"/u/p/i/g", "/m/p/i/g", "/cpu,cpuacct/p/i/g", "/p/p/i/g"},
		},
		"hybrid with devices of v1": {
			tree{mode: Hybrid, core: "/u", v1: map[string]string{"memory": "/m", "cpu": "/c", "pids": "/p", "devices": "/d"}},
			[]string{"/u/p/i/g", "/m/p/i/g", "/c/p/i/g", "/p/p/i/g"},
		},
		"v1, some together": {
			tree{mode: V1, core: "/f", v1: map[string]string{
				"freezer": "/f", "memory": "/m", "cpu": "/c", "cpuacct": "/c", "pids": "/p", "devices": "/d",
			}},
			[]string{"/f/p/i/g", "/m/p/i/g", "/c/p/i/g", "/p/p/i/g"},
		},
		"v1, devices not alone": {
			tree{mode: V1, core: "/x", v1: map[string]string{
				"freezer": "/x", "memory": "/x", "cpu": "/c", "cpuacct": "/a", "pids": "/y", "devices": "/y",
			}},
			[]string{"/x/p/i/g", "/c/p/i/g", "/a/p/i/g", "/y/p/i/g"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := &Manager{tree: tt.tree, parent: "p", instance: "i"}
			if diff := cmp.Diff(tt.own, m.at("i", "g").own()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestNamesThatAreNone(t *testing.T) {
	for _, o := range []Options{
		{}, {Instance: ".."}, {Instance: "a/b"}, {Instance: "cpu.max"}, {Parent: "/abs", Instance: "i"}, {Parent: "a//b", Instance: "i"}, {Parent: "../a", Instance: "i"},
	} {
		if m, err := Open(o); err == nil || !strings.Contains(err.Error(), "names consist of") {
			t.Errorf("%+v: %v, %v", o, m, err)
		}
	}
	m := fake(t, V2)
	for _, name := range []string{"", ".", "..", "a/b", "cgroup.procs", strings.Repeat("x", 201)} {
		if _, err := m.Create(name); err == nil || !strings.Contains(err.Error(), "names consist of") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	for cause, want := range map[error]string{
		unix.EROFS:  "mounted read-only",
		unix.EACCES: "run as root",
		unix.EPERM:  "run as root",
	} {
		err := refused(&fs.PathError{Op: "mkdir", Path: "/x", Err: cause})
		if !strings.Contains(err.Error(), want) || !errors.Is(err, cause) {
			t.Errorf("%v: %v", cause, err)
		}
	}
}
