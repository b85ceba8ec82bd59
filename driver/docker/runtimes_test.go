package docker_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/test/image"
)

// otherRuntime is one that engines have beside their default.
const otherRuntime = "io.containerd.runc.v2"

func TestContainerGetsItsRuntime(t *testing.T) {
	image.NeedEngine(t)
	engine := engineClient(t)
	info, err := engine.Info(t.Context(), client.InfoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ node, spec, want string }{
		"the engine's":               {"", "", info.Info.DefaultRuntime},
		"the node's":                 {otherRuntime, "", otherRuntime},
		"its own":                    {"", otherRuntime, otherRuntime},
		"its own before the node's":  {"runc", otherRuntime, otherRuntime},
		"its own is that of no node": {otherRuntime, "runc", "runc"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, docker.Options{Runtime: test.node})
			defer closeNow(t, d)
			spec := sleeper(t)
			spec.Runtime = test.spec
			c, err := d.Create(t.Context(), spec)
			if err == nil {
				err = c.Start(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			found, err := engine.ContainerInspect(t.Context(), spec.ID, client.ContainerInspectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := found.Container.HostConfig.Runtime; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestRuntimeThatTheEngineDoesNotKnow(t *testing.T) {
	image.NeedEngine(t)
	_, err := docker.New(t.Context(), docker.Options{Host: engineHost(), Runtime: "nosuch"})
	for _, says := range []string{"nosuch", "FN_CONTAINER_RUNTIME", "only ", "runc"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the error does not say %q: %v", says, err)
		}
	}
	var log bytes.Buffer
	d := open(t, docker.Options{Runtimes: []string{"nosuch", "runc", otherRuntime}, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	defer closeNow(t, d)
	if strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), "runtime=nosuch") {
		t.Errorf("the log is\n%s", &log)
	}
	spec := sleeper(t)
	spec.Runtime = "nosuch"
	if _, err := d.Create(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("got %v", err)
	}
}
