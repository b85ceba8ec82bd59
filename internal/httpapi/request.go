package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"unicode/utf8"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

// decode reads the first JSON value of the request's body into v, whatever the
// content type says. Field names match in any case, unknown ones are ignored.
func (a *api) decode(r *http.Request, v any) error {
	// The value comes whole before it is taken apart, which tells a body that
	// could not be read from one that is not JSON.
	var raw json.RawMessage
	err := json.NewDecoder(edge.LimitBody(r.Body, a.maxBytes)).Decode(&raw)
	switch {
	case errors.Is(err, model.ErrRequestTooLarge), errors.Is(err, model.ErrRequestTimeout):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", model.ErrInvalidJSON, err)
	}
	if !utf8.Valid(raw) {
		// Strings would come out valid anyway; annotations are kept as raw text.
		raw = bytes.ToValidUTF8(raw, []byte("\uFFFD"))
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%w: %w", model.ErrInvalidJSON, err)
	}
	return nil
}

// page reads the paging parameters of a list. A page size that makes no sense
// is the default; the store checks the cursor.
func page(query url.Values) model.PageRequest {
	perPage, err := strconv.Atoi(query.Get("per_page"))
	if err != nil || perPage <= 0 {
		perPage = model.DefaultPerPage
	}
	return model.PageRequest{Cursor: query.Get("cursor"), PerPage: min(perPage, model.MaxPerPage)}
}

// deleted answers a deletion: 204 and nothing else.
func deleted(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}
