package metrics

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// registryMethods are those that a registry has. Source: OCI distribution spec 1.1,
// "Endpoints".
var registryMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete}

// CountRegistry counts the requests to a node's registry of images: PUT with 201
// ends the push of a layer or of an image, 401 is a wrong password.
func CountRegistry(registry prometheus.Registerer, next http.Handler) http.Handler {
	count := factory{registry}.counters(tineNamespace, "registry_requests_total", "Requests to the registry of images.", "method", "status")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		method := r.Method
		if !slices.Contains(registryMethods, method) {
			method = other
		}
		count.WithLabelValues(method, strconv.Itoa(seen.status)).Inc()
	})
}

// statusWriter remembers the status of a response.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController set deadlines.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
