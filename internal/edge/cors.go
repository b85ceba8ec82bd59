package edge

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

const (
	corsMethods       = "GET,POST,PUT,HEAD,DELETE"
	corsMaxAgeSeconds = "43200" // 12 hours
)

var corsDefaultHeaders = []string{"Origin", "Content-Length", "Content-Type"}

// cors lets browsers use the server from pages of other origins. It sends no
// credentials header: the API has none to protect.
type cors struct {
	all     bool
	origins []string // lower case
	headers string
}

// newCORS returns nil if no origin is given.
func newCORS(origins, headers []string) (*cors, error) {
	origins, headers = trimmed(origins), trimmed(headers)
	if len(origins) == 0 {
		return nil, nil
	}
	if len(headers) == 0 {
		headers = corsDefaultHeaders
	}
	c := &cors{headers: strings.Join(headers, ",")}
	if origins[0] == "*" {
		c.all = true
		return c, nil
	}
	for _, origin := range origins {
		origin = strings.ToLower(origin)
		if !strings.HasPrefix(origin, "http://") && !strings.HasPrefix(origin, "https://") {
			return nil, fmt.Errorf("CORS origin %q must start with http:// or https://", origin)
		}
		c.origins = append(c.origins, origin)
	}
	return c, nil
}

// trimmed returns the entries without spaces, and without those that are empty.
func trimmed(list []string) []string {
	var kept []string
	for _, entry := range list {
		if entry = strings.ReplaceAll(entry, " ", ""); entry != "" {
			kept = append(kept, entry)
		}
	}
	return kept
}

// answer sets the headers for a request of another origin and reports whether
// that was the whole answer: preflight requests and origins that are not
// allowed never reach a handler.
func (c *cors) answer(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || isSameOrigin(origin, r.Host) {
		return false
	}
	if !c.all && !slices.Contains(c.origins, origin) {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	preflight := r.Method == http.MethodOptions
	header := w.Header()
	if c.all {
		header.Set("Access-Control-Allow-Origin", "*")
	} else {
		header.Set("Access-Control-Allow-Origin", origin)
		header.Add("Vary", "Origin")
		if preflight {
			header.Add("Vary", "Access-Control-Request-Method")
			header.Add("Vary", "Access-Control-Request-Headers")
		}
	}
	if !preflight {
		return false
	}
	header.Set("Access-Control-Allow-Methods", corsMethods)
	header.Set("Access-Control-Allow-Headers", c.headers)
	header.Set("Access-Control-Max-Age", corsMaxAgeSeconds)
	w.WriteHeader(http.StatusOK)
	return true
}

// isSameOrigin recognises pages that this server itself has served: browsers
// send Origin with their POST, PUT and DELETE requests too. The scheme is left
// out because a proxy may have ended TLS.
func isSameOrigin(origin, host string) bool {
	return host != "" && (origin == "http://"+host || origin == "https://"+host)
}
