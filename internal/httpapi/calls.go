package httpapi

import "net/http"

// callsGone answers the calls API, which Fn clients still know but no server
// has any more.
func callsGone(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusGone)
	return nil
}
