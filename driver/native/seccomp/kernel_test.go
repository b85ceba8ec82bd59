//go:build linux

package seccomp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests of this file run this program again, as a child that installs the
// filter and then does what the variable says.
const childVariable = "TINE_TEST_SECCOMP_CHILD"

func TestMain(m *testing.M) {
	what := os.Getenv(childVariable)
	if what == "" {
		os.Exit(m.Run())
	}
	if err := child(what); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

// filterFile is the descriptor that a child has the filter in, if it has one.
const filterFile = 3

// argumentSeparator is between the arguments of a program that a child is to
// become: scripts have lines.
const argumentSeparator = "\x1f"

func child(what string) error {
	if what, filtered := strings.CutPrefix(what, "filtered "); filtered {
		if err := install(); err != nil {
			return err
		}
		return act(what)
	}
	return act(what)
}

// install maps the filter and installs it for all threads.
func install() error {
	var stat unix.Stat_t
	if err := unix.Fstat(filterFile, &stat); err != nil {
		return err
	}
	filter, err := unix.Mmap(filterFile, 0, int(stat.Size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(Program(filter).Len()), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("install the filter: %w", errno)
	}
	runtime.UnlockOSThread()
	return nil
}

func act(what string) error {
	switch what {
	case "try":
		results := make([]string, len(attempts))
		for i, a := range attempts {
			_, _, errno := unix.RawSyscall6(numberOf(a.call), a.args[0], a.args[1], a.args[2], a.args[3], a.args[4], 0)
			if results[i] = "ok"; errno != 0 {
				results[i] = unix.ErrnoName(errno)
			}
		}
		return json.NewEncoder(os.Stdout).Encode(results)
	case "serve":
		return serve()
	case "time":
		const calls = 200_000
		measure := func(call string, arg uintptr) time.Duration {
			nr := numberOf(call)
			began := time.Now()
			for range calls {
				unix.RawSyscall(nr, arg, 0, 0)
			}
			return time.Since(began) / calls
		}
		fmt.Println(measure("getppid", 0).Nanoseconds(), measure("personality", 0xffffffff).Nanoseconds())
		return nil
	}
	program := strings.Split(what, argumentSeparator)
	return unix.Exec(program[0], program, slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, childVariable) }))
}

func numberOf(name string) uintptr {
	abis, err := abisOf(runtime.GOARCH)
	if err != nil {
		panic(err)
	}
	for _, n := range abis[0].calls {
		if n.name == name {
			return uintptr(n.nr)
		}
	}
	panic("no call " + name)
}

type attempt struct {
	name, call string
	args       [5]uintptr
	want       string // "ok", an error, or "same" as without a filter
}

// attempts are calls that harm nothing if they are not refused. Without a
// filter, those that are give something else, where this process has rights.
var attempts = []attempt{
	{"socket(AF_UNIX)", "socket", [5]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}, "ok"},
	{"socket(AF_INET)", "socket", [5]uintptr{unix.AF_INET, unix.SOCK_STREAM}, "ok"},
	{"socket(AF_NETLINK)", "socket", [5]uintptr{unix.AF_NETLINK, unix.SOCK_RAW}, "ok"},
	{"socket(AF_VSOCK)", "socket", [5]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}, "EPERM"},
	{"socket(AF_ALG)", "socket", [5]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}, "EPERM"},
	{"unshare", "unshare", [5]uintptr{}, "EPERM"},
	{"mount", "mount", [5]uintptr{}, "EPERM"},
	{"keyctl", "keyctl", [5]uintptr{9999}, "EPERM"},
	{"add_key", "add_key", [5]uintptr{}, "EPERM"},
	{"bpf", "bpf", [5]uintptr{9999}, "EPERM"},
	{"perf_event_open", "perf_event_open", [5]uintptr{}, "EPERM"},
	{"kexec_load", "kexec_load", [5]uintptr{0, 9999}, "EPERM"},
	{"io_uring_setup", "io_uring_setup", [5]uintptr{}, "EPERM"},
	{"setns", "setns", [5]uintptr{^uintptr(0)}, "EPERM"},
	{"clone(CLONE_NEWNS|CLONE_FS)", "clone", [5]uintptr{unix.CLONE_NEWNS | unix.CLONE_FS}, "EPERM"},
	{"clone(CLONE_SIGHAND)", "clone", [5]uintptr{unix.CLONE_SIGHAND}, "same"}, // wrong, but no namespace
	{"clone3", "clone3", [5]uintptr{}, "ENOSYS"},
	{"ptrace", "ptrace", [5]uintptr{unix.PTRACE_CONT, 0}, "same"}, // allowed since Linux 4.8
	{"personality(get)", "personality", [5]uintptr{0xffffffff}, "ok"},
	{"personality(PER_LINUX)", "personality", [5]uintptr{0}, "ok"},
	{"personality(ADDR_NO_RANDOMIZE)", "personality", [5]uintptr{0x40000}, "EPERM"},
}

var unshareAttempt = slices.IndexFunc(attempts, func(a attempt) bool { return a.name == "unshare" })

func TestKernelRefusesWhatTheProfileRefuses(t *testing.T) {
	var free, filtered []string
	for what, results := range map[string]*[]string{"try": &free, "filtered try": &filtered} {
		if err := json.Unmarshal(runChild(t, what), results); err != nil {
			t.Fatal(err)
		}
	}
	differ := 0
	for i, a := range attempts {
		want := a.want
		if want == "same" {
			want = free[i]
		}
		if filtered[i] != want {
			t.Errorf("%s: got %s, want %s", a.name, filtered[i], want)
		}
		if filtered[i] != free[i] {
			differ++
		}
	}
	// Somebody else's filter, or missing rights, may refuse the same.
	if free[unshareAttempt] == "ok" && differ < 10 {
		t.Errorf("only %d attempts do something else than without a filter: %v", differ, free)
	}
}

func TestGoServesUnderTheFilter(t *testing.T) {
	if out := string(runChild(t, "filtered serve")); out != "hello" {
		t.Errorf("got %q", out)
	}
}

// serve answers HTTP on a unix socket, and asks itself.
func serve() error {
	dir, err := os.MkdirTemp("", "seccomp")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	response, err := client.Get("http://function/")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	server.Close()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Other languages' programs start threads and processes in ways of their own.
func TestOtherLanguagesRunUnderTheFilter(t *testing.T) {
	const (
		python = `import socket, subprocess, threading, tempfile, os
path = os.path.join(tempfile.mkdtemp(), "s")
s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()
t = threading.Thread(target=lambda: s.accept()[0].sendall(b"hello")); t.start()
c = socket.socket(socket.AF_UNIX); c.connect(path)
assert subprocess.run(["true"]).returncode == 0
print(c.recv(5).decode(), end=""); t.join()`
		node = `const http = require("http"), fs = require("fs"), os = require("os"), path = require("path")
const socket = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "s")), "s")
require("child_process").execFileSync("true")
const server = http.createServer((q, r) => r.end("hello")).listen(socket, () =>
  http.get({socketPath: socket, path: "/"}, r => r.on("data", d => process.stdout.write(d)).on("end", () => server.close())))`
	)
	for name, args := range map[string][]string{"python3": {"-c", python}, "node": {"-e", node}, "sh": {"-c", "printf hello | cat"}} {
		t.Run(name, func(t *testing.T) {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Skip(name + " is not installed")
			}
			if out := string(runChild(t, "filtered "+strings.Join(append([]string{path}, args...), argumentSeparator))); out != "hello" {
				t.Errorf("got %q", out)
			}
		})
	}
}

func TestMemfdIsSealed(t *testing.T) {
	program, err := Default(Options{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := program.Memfd()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got := make([]byte, len(program)+1)
	if n, _ := file.ReadAt(got, 0); !bytes.Equal(got[:n], program) {
		t.Error("the file has something else")
	}
	if _, err := file.WriteAt([]byte{0}, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing: %v", err)
	}
	if err := file.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncating: %v", err)
	}
	if program.Len() != len(program)/8 || program.Len() > maxInstructions {
		t.Errorf("length %d", program.Len())
	}
}

// runChild runs this program as a child and returns what it printed.
func runChild(t testing.TB, what string) []byte {
	t.Helper()
	program, err := Default(Options{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := program.Memfd()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	cmd.ExtraFiles = []*os.File{file} // filterFile
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", what, err, &stderr)
	}
	return out
}

// Nanoseconds of a call that the kernel knows to be allowed, and of one for
// which the filter runs.
func BenchmarkCall(b *testing.B) {
	for name, what := range map[string]string{"free": "time", "filtered": "filtered time"} {
		b.Run(name, func(b *testing.B) {
			var allowed, conditional float64
			for b.Loop() {
				if _, err := fmt.Sscan(string(runChild(b, what)), &allowed, &conditional); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(allowed, "ns/allowed-call")
			b.ReportMetric(conditional, "ns/conditional-call")
		})
	}
}
