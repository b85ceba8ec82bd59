package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/test/image"
)

// otherRuntime is one that engines have beside their default.
const otherRuntime = "io.containerd.runc.v2"

func TestFunctionAsksForARuntime(t *testing.T) {
	n := startNode(t, map[string]string{"FN_CONTAINER_RUNTIMES_ALLOWED": otherRuntime + " nosuch"})
	n.faulty = true // a runtime that the engine does not know is
	annotated := func(value any) object { return object{"annotations": object{"tine/runtime": value}} }
	t.Run("an allowed one", func(t *testing.T) {
		n.wantNext(t, n.fn(annotated(otherRuntime)))
		ids := n.containers(t)
		if len(ids) != 1 {
			t.Fatalf("%d containers", len(ids))
		}
		found := askEngine(t, func(ctx context.Context, engine *client.Client) (client.ContainerInspectResult, error) {
			return engine.ContainerInspect(ctx, ids[0], client.ContainerInspectOptions{})
		})
		if got := found.Container.HostConfig.Runtime; got != otherRuntime {
			t.Errorf("got %q", got)
		}
	})
	t.Run("one that is not allowed", func(t *testing.T) {
		n.invoke(n.fn(annotated("runsc")), "", nil).wantError(t, 400,
			"Container runtime 'runsc' of annotation tine/runtime is not allowed on this node, FN_CONTAINER_RUNTIMES_ALLOWED is: "+otherRuntime+", nosuch")
	})
	t.Run("one that the engine does not know", func(t *testing.T) {
		if got := n.invoke(n.fn(annotated("nosuch")), "", nil); got.status != 500 {
			t.Errorf("got %d %s", got.status, got.body)
		}
		n.awaitLog(t, func(log string) bool {
			return strings.Contains(log, "runtime=nosuch") && strings.Contains(log, `msg="call failed"`)
		})
	})
	t.Run("what is no name", func(t *testing.T) {
		got := n.send("POST", "/v2/fns", `{"name":"odd","app_id":"`+n.appID+`","image":"i","annotations":{"tine/runtime":7}}`, nil)
		if got.status != 400 || !strings.Contains(got.body, "tine/runtime") {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
}

func TestRuntimeOfTheNodeThatTheEngineDoesNotKnowEndsTheStart(t *testing.T) {
	image.NeedEngine(t)
	s := launch(t, t.TempDir(), map[string]string{"FN_CONTAINER_RUNTIME": "nosuch"})
	if code := s.exitCode(); code != 1 || !strings.Contains(s.log.String(), "FN_CONTAINER_RUNTIME") {
		t.Errorf("exit code %d:\n%s", code, s.log)
	}
}
