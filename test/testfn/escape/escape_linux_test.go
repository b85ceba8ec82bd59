package escape

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// build compiles the test function, without the race detector, which would make each
// of many processes take a second.
func build(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "testfn")
	compiler := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/tinefn/tine/test/testfn")
	compiler.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := compiler.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

// attempt runs a subject, or one variant of it, in a process with its own mounts,
// network, IPC and host name, and with no fence at all.
func attempt(t *testing.T, program string, targets Targets) []Outcome {
	t.Helper()
	order, err := json.Marshal(targets)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), program, "escape")
	child.Stdin = bytes.NewReader(order)
	child.Dir = "/"
	child.ExtraFiles = []*os.File{os.Stderr} // left open
	child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET, Setsid: true}
	if targets.Subject == "Network" || targets.Subject == "Sockets" {
		child.SysProcAttr.Unshareflags &^= unix.CLONE_NEWNET
	}
	answer, err := child.Output()
	if err != nil {
		t.Fatalf("%s %s: %v %s", targets.Subject, targets.Only, err, answer)
	}
	var outcomes []Outcome
	if err := json.Unmarshal(answer, &outcomes); err != nil {
		t.Fatal(err)
	}
	return outcomes
}

// world is what can be reached by who is not fenced in.
func world(t *testing.T) Targets {
	t.Helper()
	const marker = "escape-test-marker"
	dir := t.TempDir()
	file, open := filepath.Join(dir, "secret"), filepath.Join(dir, "open")
	must(t, os.WriteFile(file, []byte(marker), 0o600))
	must(t, os.Mkdir(open, 0o700))
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, file, 0)
	must(t, err)
	var stat unix.Stat_t
	must(t, unix.Stat(file, &stat))
	sleeper := exec.CommandContext(t.Context(), "sleep", "600")
	sleeper.Env = []string{"MARKER=" + marker}
	sleeper.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	must(t, sleeper.Start())
	t.Cleanup(func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() })
	key, err := unix.AddKey("user", marker, []byte(marker), unix.KEY_SPEC_USER_KEYRING)
	must(t, err)
	t.Cleanup(func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, key, unix.KEY_SPEC_USER_KEYRING, 0, 0) })
	must(t, unix.KeyctlSetperm(key, 0x3f3f3f3f))
	serve := func(network, address string) string {
		listener, err := net.Listen(network, address) //nolint:noctx // of this machine
		must(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
				_, _ = conn.Write([]byte("x"))
				_ = conn.Close()
			}
		}()
		return listener.Addr().String()
	}
	sockets, err := os.MkdirTemp("", "escape")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	return Targets{
		Marker: marker, File: file, Dir: open, Handle: handle.Bytes(), Kind: handle.Type(), Device: stat.Dev, PID: sleeper.Process.Pid, Key: key,
		Sockets:  []string{serve("unix", filepath.Join(sockets, "sock"))},
		Abstract: strings.TrimPrefix(serve("unix", "@"+marker), "@"), Addresses: map[string][]string{"here": {serve("tcp", "127.0.0.1:0")}},
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// confined are attempts that get through where there is no fence, on any kernel,
// and change nothing of the machine then.
var confined = map[string][]string{
	"HostFiles": {
		"by its path", "from above the root", "by the root of this process", "by a link", "by its handle", "by leaving a root", "writing it", "a new one",
	},
	"Descriptors": {"that were left open"},
	"Processes":   {"environments that can be read", "hold", "priority", "processors", "limits", "attach", "signal"},
	"Sockets":     {"abstract name", "interface's state", "interface's hardware address"},
	"RawSockets":  {"packets", "packets' content", "raw IP", "raw ICMP", "raw TCP", "raw IPv6", "foreign addresses", "marks", "buffers"},
	"Mounts": {
		"file system in memory", "processes", "kernel's objects", "copy", "shared", "root to write",
		"system call fsopen", "system call fspick", "system call open_tree", "system call mount_setattr",
	},
	"Namespaces": {"new mounts", "new network", "new IPC", "new host name", "new processes", "new control groups", "new users", "new users by clone3"},
	"Keyrings":   {"read a key by its number", "describe a key by its number", "search the user's keys", "join a session"},
	"Cgroups":    {"mounting version 2"},
	"ProcAndSys": {"writing /proc/sys/kernel/hostname"},
	"Network":    {"tcp to here"},
	"Kernel": {
		"swap", "no swap", "accounting", "messages of the kernel", "program in the kernel", "map in the kernel", "performance counters", "watch for all files",
		"host name", "domain name", "priority above others", "personality", "other user", "other group", "other groups", "capabilities",
	},
}

// What cannot get through shows nothing when it is refused.
func TestAttemptsGetThroughWithoutAFence(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it needs root")
	}
	program, targets := build(t), world(t)
	for subject, variants := range confined {
		t.Run(subject, func(t *testing.T) {
			for _, variant := range variants {
				must(t, os.WriteFile(targets.File, []byte(targets.Marker), 0o600))
				targets := targets
				targets.Subject, targets.Only = subject, variant
				outcomes := attempt(t, program, targets)
				if len(outcomes) != 1 || !outcomes[0].Through {
					t.Errorf("%s: %+v", variant, outcomes)
				}
			}
		})
	}
}

func TestUnknownSubjectsAreRefused(t *testing.T) {
	for _, order := range []string{`{"subject":"Dance"}`, `{`} {
		if err := Answer(strings.NewReader(order), io.Discard); err == nil {
			t.Errorf("%s was tried", order)
		}
	}
	if err := Explode(strings.NewReader(`{"kind":"confetti"}`), io.Discard); err == nil {
		t.Error("an unknown bomb exploded")
	}
}
