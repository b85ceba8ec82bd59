package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tinefn/tine/test/image"
)

// auto are settings with which the server chooses its driver.
func auto(more map[string]string) map[string]string {
	settings := map[string]string{"FN_DRIVER": "auto", "FN_SANDBOX_MIN": "0", "FN_SANDBOX_BRIDGE": ownBridge(), "FN_SANDBOX_SUBNET": ownSubnet}
	for name, value := range more {
		settings[name] = value
	}
	return settings
}

func TestDriverIsChosen(t *testing.T) {
	needRoot(t)
	for name, tt := range map[string]struct {
		settings map[string]string
		docker   bool
	}{
		"the machine can":               {nil, false},
		"a setting is for Docker alone": {map[string]string{"FN_DOCKER_NETWORKS": "bridge"}, true},
		"the machine cannot":            {map[string]string{"FN_SANDBOX_SUBNET": "127.0.0.0/8"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.docker {
				image.NeedEngine(t)
			}
			s := start(t, auto(tt.settings))
			want := "driver=native"
			if tt.docker {
				want = "driver=docker"
			}
			if !strings.Contains(s.log.String(), want) {
				t.Errorf("want %s:\n%s", want, s.log)
			}
			s.stop()
		})
	}
}

func TestNoDriverWorks(t *testing.T) {
	needRoot(t)
	s := launch(t, t.TempDir(), auto(map[string]string{"FN_SANDBOX_SUBNET": "127.0.0.0/8", "DOCKER_HOST": "unix:///absent.sock"}))
	if code := s.exitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"no driver works", "127.0.0.0/8", "/absent.sock", "fnserver doctor"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log does not speak of %q:\n%s", want, s.log)
		}
	}
}

// TestDirectoryOfAnotherServerIsRefused has Docker on the machine perhaps, which would
// work, but not be meant.
func TestDirectoryOfAnotherServerIsRefused(t *testing.T) {
	needRoot(t)
	first := start(t, auto(nil))
	second := launch(t, t.TempDir(), auto(map[string]string{"FN_STATE_DIR": filepath.Join(first.dir, "data")}))
	if code := second.exitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(second.log.String(), "FN_STATE_DIR="+first.dir) || !strings.Contains(second.log.String(), "end the other server") {
		t.Errorf("log:\n%s", second.log)
	}
}

// doctor runs the server's doctor, as a user.
func doctor(t *testing.T, user int, settings ...string) (report string, code int) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), binary, "doctor")
	cmd.Dir = dir
	cmd.Env = append([]string{"FN_SANDBOX_BRIDGE=" + ownBridge(), "FN_SANDBOX_SUBNET=" + ownSubnet}, settings...)
	if user != 0 {
		// The program is in a directory that is the tests' alone.
		copied := filepath.Join(os.TempDir(), "tine-doctor")
		content, err := os.ReadFile(binary)
		if err == nil {
			err = os.WriteFile(copied, content, 0o755) //nolint:gosec // everybody executes it
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(copied) })
		cmd.Path, cmd.Dir = copied, os.TempDir()
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
	}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("the doctor leaves %v, %v", left, err)
	}
	return string(out), 0
}

func TestDoctorTellsWhichDriverWorks(t *testing.T) {
	needRoot(t)
	report, code := doctor(t, 0, "DOCKER_HOST=unix:///absent.sock")
	if code != 0 || !strings.Contains(report, "native: works") || !strings.Contains(report, "docker: does not work") || !strings.Contains(report, "/absent.sock") ||
		!strings.Contains(report, "This server uses native") || strings.Contains(report, "without") {
		t.Errorf("code %d:\n%s", code, report)
	}
	report, code = doctor(t, 0, "DOCKER_HOST=unix:///absent.sock", "FN_DRIVER=docker")
	if code != 1 || !strings.Contains(report, "by FN_DRIVER=docker, which does not work") {
		t.Errorf("code %d:\n%s", code, report)
	}
	report, code = doctor(t, 65534, "DOCKER_HOST=unix:///absent.sock")
	if code != 1 || !strings.Contains(report, "it needs root") || !strings.Contains(report, "No driver works here") {
		t.Errorf("code %d:\n%s", code, report)
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/tine/*/examine-*")
	if err != nil || len(groups) > 0 {
		t.Errorf("the doctor leaves %v, %v", groups, err)
	}
}

// TestDoctorDisturbsNoServer examines the machine while a server uses what is examined.
func TestDoctorDisturbsNoServer(t *testing.T) {
	n := startNative(t, nil)
	id := n.fn(nil)
	n.wantNext(t, id)
	cmd := exec.CommandContext(t.Context(), binary, "doctor")
	cmd.Dir, cmd.Env = n.dir, []string{"FN_SANDBOX_BRIDGE=" + ownBridge(), "FN_SANDBOX_SUBNET=" + ownSubnet}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	n.wantNext(t, id)
	n.wantNext(t, n.fn(nil)) // in a sandbox that is new, or was there before
	n.stopClean(t)
}
