package registry

import (
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
)

// tags serves /v2/<name>/tags/list.
func (g *Registry) tags(w http.ResponseWriter, r *http.Request, to route) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errMethod
	}
	all, known := g.store.Tags(g.name(to.repository))
	if !known {
		return refuse(http.StatusNotFound, codeNameUnknown, "the registry has no repository %s", to.repository)
	}
	part, err := page(w, r, all)
	if err != nil {
		return err
	}
	return writeJSON(w, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{to.repository, part})
}

// catalog serves /v2/_catalog. Source: Docker Registry HTTP API V2, "Catalog".
func (g *Registry) catalog(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errMethod
	}
	part, err := page(w, r, g.store.Repositories(g.opts.Host))
	if err != nil {
		return err
	}
	return writeJSON(w, struct {
		Repositories []string `json:"repositories"`
	}{part})
}

// page cuts the part out of a sorted list that a request asks for with n and
// last, and tells where the next begins. Source: OCI distribution spec,
// "Listing Tags".
func page(w http.ResponseWriter, r *http.Request, all []string) ([]string, error) {
	query := r.URL.Query()
	if last := query.Get("last"); last != "" {
		all = all[sort.Search(len(all), func(i int) bool { return all[i] > last }):]
	}
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, refuse(http.StatusBadRequest, codeUnsupported, "n is no number: %.20q", text)
		}
		if n < len(all) {
			all = all[:n]
			if n > 0 {
				next := url.URL{Path: r.URL.Path, RawQuery: url.Values{"n": {text}, "last": {all[n-1]}}.Encode()}
				w.Header().Set("Link", fmt.Sprintf("<%s>; rel=\"next\"", next.String()))
			}
		}
	}
	if all == nil {
		all = []string{} // not null
	}
	return all, nil
}
