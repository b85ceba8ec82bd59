package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tinefn/tine/test/image"
)

// Deadlines, far above what is needed.
const (
	startDeadline = 30 * time.Second
	stopDeadline  = 40 * time.Second
	stepDeadline  = 60 * time.Second
)

// binaries is where the example is built.
var binaries string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "extending-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	return m.Run()
}

// program builds the example once and returns where it is.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaries, "extending")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// imageName is the function's, as the README calls it.
const imageName = "extending/function:1"

// buildFunction makes the image as the README says.
func buildFunction(t *testing.T) {
	t.Helper()
	image.NeedEngine(t)
	path := filepath.Join(t.TempDir(), "func")
	build := exec.Command("go", "build", "-o", path, "./function")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files := map[string][]byte{}
	for name, from := range map[string]string{"func": path, "Dockerfile": "function/Dockerfile"} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = content
	}
	ctx, cancel := context.WithTimeout(t.Context(), stepDeadline)
	defer cancel()
	if err := image.Build(ctx, imageName, files); err != nil {
		t.Fatal(err)
	}
}

// output is what a process writes, while it does.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// serving is the line by which a node tells its address.
var serving = regexp.MustCompile(`url=http://(\S+)`)

// start runs the example and returns the address at which it serves. It is stopped at
// the end of the test.
func start(t *testing.T, settings ...string) string {
	address, _ := startNode(t, settings...)
	return address
}

// startNode is start that returns the log too.
func startNode(t *testing.T, settings ...string) (string, *output) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	// Short, because the names of sockets are.
	dir, err := os.MkdirTemp("", "ext")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	log := &output{}
	cmd := exec.Command(path)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "FN_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "FN_HOST=127.0.0.1", "FN_PORT=0", "FN_REGISTRY_LISTEN=off", "FN_POOL_CPU_PRESSURE=100", "FN_IOFS_PATH="+filepath.Join(dir, "s"))
	cmd.Env = append(cmd.Env, settings...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("%v\n%s", err, log)
			return
		}
		select {
		case err := <-ended:
			if err != nil || t.Failed() {
				t.Errorf("ended with %v\n%s", err, log)
			}
		case <-time.After(stopDeadline):
			_ = cmd.Process.Kill()
			t.Errorf("does not end\n%s", log)
		}
	})
	for deadline := time.Now().Add(startDeadline); ; time.Sleep(10 * time.Millisecond) {
		if found := serving.FindStringSubmatch(log.String()); found != nil {
			return found[1], log
		}
		if time.Now().After(deadline) {
			t.Fatalf("does not serve\n%s", log)
		}
	}
}

// step is a command of the README and what it shows that comes out.
type step struct{ command, want string }

// steps are those of the README's consoles.
func steps(t *testing.T) (all []step) {
	t.Helper()
	content, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	console := false
	for line := range strings.Lines(string(content)) {
		switch command, isCommand := strings.CutPrefix(line, "$ "); {
		case strings.HasPrefix(line, "```"):
			console = line == "```console\n"
		case console && isCommand:
			all = append(all, step{command: command})
		case console:
			all[len(all)-1].want += line
		}
	}
	if len(all) < 10 {
		t.Fatalf("the README has %d commands", len(all))
	}
	return all
}

// believed is how long a load balancer uses a definition without asking again.
const believed = 5 * time.Second

// follow does what the README says in one shell, with the addresses of the nodes, and
// compares what comes out. Where they differ, it waits until a change has arrived.
func follow(t *testing.T, definitions, calls string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("the README's commands need curl")
	}
	const mark = "--- end of step ---\n"
	all := steps(t)
	var script strings.Builder
	for _, s := range all {
		command := strings.ReplaceAll(s.command, "localhost:8080/v2", definitions+"/v2")
		script.WriteString(strings.ReplaceAll(command, "localhost:8080", calls))
		if definitions != calls && strings.Contains(command, "-X PUT") {
			fmt.Fprintf(&script, "sleep %v\n", (believed + time.Second).Seconds())
		}
		script.WriteString("echo '" + strings.TrimSpace(mark) + "'\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), stepDeadline)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", script.String()).CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	got := strings.Split(strings.ReplaceAll(string(out), "\r\n", "\n"), mark)
	for i, s := range all {
		switch {
		case i >= len(got):
			t.Errorf("$ %sdid not run", s.command)
		case got[i] != s.want:
			t.Errorf("$ %sgot:\n%swant:\n%s", s.command, got[i], s.want)
		}
	}
}

// drivers are those that functions of the test may run with, and their settings. The
// bridge and its network are the test's own, as other servers may be on the machine.
var drivers = map[string][]string{
	"docker": {"FN_DRIVER=docker", "FN_PREFORK_MAX=0"},
	"native": {"FN_DRIVER=native", fmt.Sprintf("FN_SANDBOX_BRIDGE=ext%d", os.Getpid()), "FN_SANDBOX_SUBNET=10.82.0.0/24", "FN_SANDBOX_MIN=1"},
}

// withDriver runs a test with each driver that can work here.
func withDriver(t *testing.T, test func(t *testing.T, settings []string)) {
	buildFunction(t)
	for driver, settings := range drivers {
		t.Run(driver, func(t *testing.T) {
			if driver == "native" && os.Geteuid() != 0 {
				t.Skip("sandboxes need root")
			}
			test(t, settings)
		})
	}
}

func TestReadmeShowsWhatOneNodeDoes(t *testing.T) {
	withDriver(t, func(t *testing.T, settings []string) {
		address := start(t, settings...)
		follow(t, address, address)
	})
}

// runnerAddress is how a runner tells where it takes calls.
var runnerAddress = regexp.MustCompile(`Pure Runner listening on .* address=(\S+)`)

func TestReadmeShowsWhatManyMachinesDo(t *testing.T) {
	withDriver(t, func(t *testing.T, settings []string) {
		api := start(t, "FN_NODE_TYPE=api")
		_, log := startNode(t, append(settings, "FN_NODE_TYPE=pure-runner", "FN_GRPC_PORT=0")...)
		found := runnerAddress.FindStringSubmatch(log.String())
		if found == nil {
			t.Fatalf("the runner does not tell where it is\n%s", log)
		}
		lb := start(t, "FN_NODE_TYPE=lb", "FN_RUNNER_API_URL=http://"+api, "FN_RUNNER_ADDRESSES="+found[1])
		follow(t, api, lb)
	})
}
