package node

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/tinefn/tine/internal/edge"
)

// serveReady adds GET /ready, by which whoever sends requests to nodes finds out
// whether to send them to this one: 200 if so, 503 with the reason if not. A node
// that is told to stop says no first, and goes on serving for FN_SHUTDOWN_DELAY.
func (n *Node) serveReady(router *edge.Router) {
	router.Handle(http.MethodGet, "/ready", func(w http.ResponseWriter, r *http.Request) error {
		status, message := http.StatusOK, "ready"
		if reason := n.notReady(r.Context()); reason != "" {
			status, message = http.StatusServiceUnavailable, reason
		}
		return edge.WriteJSON(w, status, struct {
			Message string `json:"message"`
		}{message})
	})
}

// notReady returns why no requests should be sent, or "".
func (n *Node) notReady(ctx context.Context) string {
	if n.stopping.Load() {
		return "the server is about to stop"
	}
	if n.needs != nil {
		return n.needs(ctx)
	}
	return ""
}

// linger lets others find out that the node is about to stop. It ends early if the
// web server does, with its error.
func (n *Node) linger(delay time.Duration, failed <-chan error) error {
	n.stopping.Store(true)
	if delay <= 0 {
		return nil
	}
	n.log.Info("about to stop, as /ready says", slog.Duration("in", delay))
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case err := <-failed:
		return err
	}
}
