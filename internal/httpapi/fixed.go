package httpapi

import (
	"net/http"

	"github.com/tinefn/tine/internal/edge"
)

// APIVersion is the level of the Fn API that this server speaks. Fn clients
// read it as the server's version and compare it with what they need, so it is
// not the version of this program.
const APIVersion = "0.3.753"

// RegisterPing adds GET /, by which clients and probes see that a server of this
// kind is there. The answer is the one that Fn clients know.
func RegisterPing(r *edge.Router) {
	r.Handle("GET", "/", func(w http.ResponseWriter, _ *http.Request) error {
		return edge.WriteJSON(w, http.StatusOK, struct {
			Goto  string `json:"goto"`
			Hello string `json:"hello"`
		}{"https://github.com/fnproject/fn", "world!"})
	})
}

// RegisterVersion adds GET /version. An empty version means [APIVersion].
func RegisterVersion(r *edge.Router, version string) {
	if version == "" {
		version = APIVersion
	}
	r.Handle("GET", "/version", func(w http.ResponseWriter, _ *http.Request) error {
		return edge.WriteJSON(w, http.StatusOK, struct {
			Version string `json:"version"`
		}{version})
	})
}
