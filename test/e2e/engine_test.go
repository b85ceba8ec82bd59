package e2e

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/tinefn/tine/test/image"
)

// awaitCold waits until a function that has no instance can be called.
func (n *node) awaitCold(t *testing.T, id string) {
	t.Helper()
	var got answer
	eventually(t, 60*time.Second, func() bool { got = n.invoke(id, "x", mode("echo")); return got.status == 200 }, func() string {
		return "no call worked after the engine came back: " + got.body + "\n" + n.log.String()
	})
}

func TestEngineThatGoesAwayAndComesBack(t *testing.T) {
	image.NeedEngine(t)
	proxy := newEngineProxy(t)
	n := startNode(t, map[string]string{
		"DOCKER_HOST": "unix://" + proxy.path, "FN_ENGINE_TIMEOUT": "2", "FN_ENGINE_FAILURES": "2", "FN_ENGINE_MAX_PAUSE": "3",
	})
	n.faulty = true
	warm := n.fn(nil)
	n.wantNext(t, warm)
	for _, how := range []string{refuses, hangs, errs} {
		t.Run(how, func(t *testing.T) {
			cold := n.fn(nil)
			proxy.breakDown(how)
			for range 3 {
				got := n.invoke(cold, "x", mode("echo"))
				if got.status < 500 || got.took > 15*time.Second {
					t.Errorf("got %d %s after %v", got.status, got.body, got.took)
				}
				if how != errs {
					got.wantError(t, 503, "Timed out - server too busy")
				}
			}
			if how == hangs {
				// Nobody waits for the engine any more.
				n.awaitMetric(t, "tine_engine_circuit_open", "1")
			}
			n.wantNext(t, warm)
			proxy.repair()
			n.awaitCold(t, cold)
			n.awaitMetric(t, "tine_engine_circuit_open", "0")
			n.wantNext(t, warm)
		})
	}
	n.stopClean(t)
}

// engineScript runs scripts/engine.sh. Its output goes to a file, as the
// engine that it starts may keep that open.
func engineScript(t *testing.T, command string) (output string, err error) {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		return "", err
	}
	defer file.Close()
	run := exec.Command("../../scripts/engine.sh", command)
	run.Stdout, run.Stderr = file, file
	err = run.Run()
	text, readErr := os.ReadFile(file.Name())
	return string(text), errors.Join(err, readErr)
}

func TestEngineThatIsRestarted(t *testing.T) {
	image.Alone(t)
	n := startNode(t, nil)
	n.faulty = true
	id := n.fn(nil)
	n.wantNext(t, id)
	restore := func() {
		if output, err := engineScript(t, "ensure"); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
	}
	defer restore()
	output, err := engineScript(t, "stop")
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if output == "" {
		t.Skip("the engine is not one that make engine started, so it is not ended")
	}
	// The containers are gone with their engine.
	eventually(t, 20*time.Second, func() bool { return n.invoke(id, "x", mode("echo")).status == 503 }, n.log.String)
	restore()
	n.awaitCold(t, id)
	eventually(t, 20*time.Second, func() bool { return len(n.containers(t)) == 1 }, n.log.String)
	n.stopClean(t)
}
