package e2e

import (
	"context"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// preforkLevel is the metric of the namespaces in a state.
func preforkLevel(state string) string {
	return `tine_prefork_namespaces{network="default",state="` + state + `"}`
}

func TestColdCallFindsANamespaceReady(t *testing.T) {
	n := startNode(t, map[string]string{"FN_PREFORK_MIN": "2", "FN_PREFORK_MAX": "6", "FN_PREFORK_USE_ONCE": "true"})
	n.awaitMetric(t, preforkLevel("ready"), "2")
	first, second := n.fn(nil), n.fn(nil)
	n.wantNext(t, first)
	n.wantNext(t, second)
	n.awaitMetric(t, `tine_prefork_leases_total{result="hit"}`, "2")
	n.awaitMetric(t, preforkLevel("leased"), "2")
	n.awaitMetric(t, preforkLevel("ready"), "2") // made in the background
	if got := n.send("DELETE", "/v2/fns/"+first, "", nil); got.status != 204 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	n.awaitMetric(t, preforkLevel("leased"), "1")
	n.awaitMetric(t, `tine_prefork_ended_total{cause="used",network="default"}`, "1")
	n.stopClean(t)
}

// TestPlaceholdersKilledUnderLoad takes the network from running functions again
// and again. Calls may not fail for it.
func TestPlaceholdersKilledUnderLoad(t *testing.T) {
	n := startNode(t, map[string]string{"FN_PREFORK_MIN": "3", "FN_PREFORK_MAX": "12"})
	n.awaitMetric(t, preforkLevel("ready"), "3")
	ids := []string{n.fn(nil), n.fn(nil), n.fn(nil)}
	for _, id := range ids {
		n.wantNext(t, id)
	}
	l := n.underLoad(t, 3, ids...)
	for range 5 {
		l.await(t, l.answered.Load()+20)
		for _, id := range n.placeholders(t) {
			askEngine(t, func(ctx context.Context, engine *client.Client) (any, error) {
				_, err := engine.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
				if errdefs.IsConflict(err) || errdefs.IsNotFound(err) { // it has ended by itself
					err = nil
				}
				return nil, err
			})
		}
	}
	l.await(t, l.answered.Load()+20)
	l.end()
	if cut := l.cut.Load(); cut > 0 {
		t.Errorf("%d calls were cut", cut)
	}
	n.awaitMetric(t, preforkLevel("ready"), "3") // not counting what is kept for the app: it is in use or in quarantine
	for _, id := range ids {
		n.wantNext(t, id)
	}
	n.stopClean(t)
}

// placeholders lists those of the server.
func (s *server) placeholders(t *testing.T) []string {
	t.Helper()
	return s.containers(t, "tine.placeholder=true")
}
