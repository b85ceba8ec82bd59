package metrics

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestRequestsToTheRegistryAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	server := httptest.NewServer(CountRegistry(registry, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Error(err)
		}
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusCreated)
		}
	})))
	defer server.Close()
	for _, method := range []string{"GET", "PUT", "PUT", "BREW", "STIR"} {
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	want(t, scrape(t, registry), `tine_registry_requests_total{method="GET",status="200"} 1`,
		`tine_registry_requests_total{method="PUT",status="201"} 2`, `tine_registry_requests_total{method="other",status="200"} 2`)
}
