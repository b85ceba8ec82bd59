package system

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinefn/tine/internal/osthread"
	"github.com/tinefn/tine/test/nodelog"
)

// Deadlines of a node's process, far above what it needs.
const (
	startDeadline = 30 * time.Second
	stopDeadline  = 40 * time.Second
)

// node is a server with a place of its own: it keeps its directory, its address and its
// settings when it is started again.
type node struct {
	t        *testing.T
	name     string
	host     host
	port     string // of HTTP
	dir      string
	settings map[string]string
	web      *web

	process *process // the last one that was started; nil: none was
	killed  bool     // it left things behind, which its next start removes
}

// process is a running server.
type process struct {
	cmd   *exec.Cmd
	log   *nodelog.Buffer
	ended chan struct{} // closed when it ended; err is set before
	err   error

	faulty bool // the log may speak of faults, which the test makes
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// exitCode waits for the end, with a deadline after which it is forced.
func (p *process) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(stopDeadline):
		_ = p.cmd.Process.Kill() // it may have ended just now
		<-p.ended
		t.Errorf("%s did not end:\n%s", p.cmd.Path, p.log.Tail())
		return -1
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		return exit.ExitCode()
	}
	if p.err != nil {
		t.Error(p.err)
	}
	return 0
}

// launch starts the node's process without waiting until it serves.
func (n *node) launch() {
	n.t.Helper()
	if n.process != nil && n.process.running() {
		n.t.Fatalf("%s runs already", n.name)
	}
	all := map[string]string{
		"FN_HOST": n.host.address, "FN_PORT": n.port, "FN_LOG_LEVEL": "debug",
		"DOCKER_HOST": "unix:///absent.sock", // no engine takes part
	}
	maps.Copy(all, n.settings)
	cmd := exec.Command(n.program()) // it is stopped in order, not killed with a context
	cmd.Dir = n.dir
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "FN_") && !strings.HasPrefix(variable, "DOCKER_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	for name, value := range all {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	p := &process{cmd: cmd, log: &nodelog.Buffer{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	// A Ctrl-C is for the tests, which stop their nodes. If they cannot, as they were
	// killed, the nodes end by themselves. The signal comes when the thread ends that
	// started the node.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	thread := osthread.Start()
	var err error
	thread.Do(func() {
		if err = n.host.enter(); err == nil {
			err = cmd.Start()
		}
	})
	if err != nil {
		thread.Close()
		n.t.Fatal(err)
	}
	n.process = p
	go func() { // ends with the process, which cleanUp ends
		p.err = cmd.Wait()
		thread.Close()
		close(p.ended)
	}()
}

func (n *node) program() string { return binary }

// start starts the node and waits until it serves.
func (n *node) start() {
	n.t.Helper()
	n.launch()
	n.awaitServing()
}

func (n *node) awaitServing() {
	n.t.Helper()
	eventually(n.t, startDeadline, func() bool {
		if !n.process.running() {
			n.t.Fatalf("%s ended:\n%s", n.name, n.process.log.Tail())
		}
		got, err := n.web.do(n.web.request(n.t, "GET", n.url("/version"), "", nil))
		return err == nil && got.status == 200
	}, func() string { return n.name + " does not serve:\n" + n.process.log.Tail() })
	n.killed = false
}

func (n *node) url(path string) string {
	return "http://" + net.JoinHostPort(n.host.address, n.port) + path
}

// address is where a runner takes calls.
func (n *node) address() string { return net.JoinHostPort(n.host.address, n.settings["FN_GRPC_PORT"]) }

// stop asks the node to end and expects it to do so in order, and to leave nothing.
func (n *node) stop() {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	n.awaitStopped()
}

func (n *node) awaitStopped() {
	n.t.Helper()
	if code := n.process.exitCode(n.t); code != 0 {
		n.t.Errorf("%s: exit code %d:\n%s", n.name, code, n.process.log.Tail())
	}
	log := n.process.log.String()
	if strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") || strings.Contains(log, "level=ERROR") && !n.process.faulty {
		n.t.Errorf("the log of %s speaks of a fault:\n%s", n.name, n.process.log.Faults())
	}
	if left := n.leftovers(); left != "" {
		n.t.Errorf("%s left %s", n.name, left)
	}
}

func (n *node) signal(s syscall.Signal) {
	n.t.Helper()
	if err := n.process.cmd.Process.Signal(s); err != nil {
		n.t.Errorf("signal %v for %s: %v", s, n.name, err)
	}
}

// kill ends the node as a power failure would.
func (n *node) kill() {
	n.t.Helper()
	n.signal(syscall.SIGKILL)
	<-n.process.ended
	n.killed = true
}

// freeze stops all that the node's process does; its connections stay.
func (n *node) freeze() { n.t.Helper(); n.signal(syscall.SIGSTOP) }
func (n *node) thaw()   { n.t.Helper(); n.signal(syscall.SIGCONT) }

// cleanUp ends what runs. A node that was killed is started once more, to remove what it
// left on the machine.
func (n *node) cleanUp() {
	if n.t.Failed() && n.process != nil {
		n.t.Logf("the end of the log of %s:\n%s", n.name, n.process.log.Tail())
	}
	if n.killed {
		n.start()
	}
	if n.process != nil && n.process.running() {
		n.thaw() // if a test failed while it was frozen
		n.stop()
	}
}

// leftovers names what is on the machine that belongs to the native driver of the node.
func (n *node) leftovers() string {
	instance, err := os.ReadFile(filepath.Join(n.dir, "data", "native", "instance"))
	if err != nil {
		return "" // it runs no functions
	}
	var found []string
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		groups, err := filepath.Glob(root + "/tine/" + strings.TrimSpace(string(instance)))
		if err != nil {
			n.t.Fatal(err)
		}
		found = append(found, groups...)
	}
	bridge := n.settings["FN_SANDBOX_BRIDGE"]
	// A namespace's interfaces are not seen from outside.
	if err := n.host.in(func() error { _, err := net.InterfaceByName(bridge); return err }); err == nil {
		found = append(found, "bridge "+bridge)
	}
	sockets, err := os.ReadDir(n.settings["FN_IOFS_PATH"])
	if err != nil {
		n.t.Fatal(err)
	}
	for _, entry := range sockets {
		found = append(found, "directory "+entry.Name())
	}
	return strings.Join(found, ", ")
}

// metric returns the sum of a metric's series, 0 if there is none.
func (n *node) metric(name string) (sum float64) {
	n.t.Helper()
	got := n.web.send(n.t, "GET", n.url("/metrics"), "", nil)
	for line := range strings.Lines(got.body) {
		rest, found := strings.CutPrefix(line, name)
		if !found || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		var value float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' '):], &value); err != nil {
			n.t.Fatalf("metric %q: %v", line, err)
		}
		sum += value
	}
	return sum
}

// running is how many calls the runner executes just now, and calls how many it has accepted.
func (n *node) running() int { return int(n.metric("fn_running")) }
func (n *node) calls() int   { return int(n.metric("fn_calls")) }

func (n *node) awaitRunning(want int) {
	n.t.Helper()
	got := 0
	eventually(n.t, 20*time.Second, func() bool { got = n.running(); return got == want }, func() string {
		return fmt.Sprintf("%s executes %d calls, not %d\n%s", n.name, got, want, n.process.log.Tail())
	})
}

// awaitLog waits for a line in the log of the node's process.
func (n *node) awaitLog(says string) {
	n.t.Helper()
	eventually(n.t, 20*time.Second, func() bool { return strings.Contains(n.process.log.String(), says) }, func() string {
		return fmt.Sprintf("the log of %s does not say %q:\n%s", n.name, says, n.process.log.Tail())
	})
}

// eventually polls, as nodes tell nobody when they are done.
func eventually(t *testing.T, limit time.Duration, holds func() bool, otherwise func() string) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise())
		}
	}
}
