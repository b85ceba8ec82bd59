package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/tinefn/tine/internal/image"
)

// Codes of errors. Source: OCI distribution spec, "Error Codes"; the last one
// is Docker's, for what has none.
const (
	codeBlobUnknown         = "BLOB_UNKNOWN"
	codeUploadInvalid       = "BLOB_UPLOAD_INVALID"
	codeUploadUnknown       = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid       = "DIGEST_INVALID"
	codeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	codeManifestInvalid     = "MANIFEST_INVALID"
	codeManifestUnknown     = "MANIFEST_UNKNOWN"
	codeNameInvalid         = "NAME_INVALID"
	codeNameUnknown         = "NAME_UNKNOWN"
	codeSizeInvalid         = "SIZE_INVALID"
	codeUnauthorized        = "UNAUTHORIZED"
	codeDenied              = "DENIED"
	codeUnsupported         = "UNSUPPORTED"
	codeTooManyRequests     = "TOOMANYREQUESTS"
	codeUnknown             = "UNKNOWN"
)

// refusal is an error with what a client sees of it.
type refusal struct {
	status  int
	code    string
	message string
}

func (e *refusal) Error() string { return e.message }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

var (
	errNoRoute = refuse(http.StatusNotFound, codeUnknown, "this registry has no such path")
	errMethod  = refuse(http.StatusMethodNotAllowed, codeUnsupported, "this registry does not have that method here")
)

// translate gives errors of the store a status and a code; what it does not
// know is the server's fault.
func translate(err error) *refusal {
	if known, ok := errors.AsType[*refusal](err); ok {
		return known
	}
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case tooLarge, errors.Is(err, image.ErrLimit):
		return &refusal{http.StatusRequestEntityTooLarge, codeSizeInvalid, err.Error()}
	case errors.Is(err, image.ErrDigest):
		return &refusal{http.StatusBadRequest, codeDigestInvalid, err.Error()}
	case errors.Is(err, image.ErrInvalid):
		return &refusal{http.StatusBadRequest, codeManifestInvalid, err.Error()}
	case errors.Is(err, image.ErrNoSpace):
		return &refusal{http.StatusInsufficientStorage, codeUnknown, err.Error()}
	case errors.Is(err, image.ErrClosed):
		return &refusal{http.StatusServiceUnavailable, codeUnknown, err.Error()}
	}
	return nil
}

func (g *Registry) fail(w http.ResponseWriter, r *http.Request, err error) {
	shown := translate(err)
	if shown == nil {
		g.log.Error("registry", "method", r.Method, "path", r.URL.Path, "error", err)
		shown = refuse(http.StatusInternalServerError, codeUnknown, "the server could not do it, its log says why")
	}
	if shown.status == http.StatusInsufficientStorage {
		g.log.Error("registry", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	shown.write(w)
}

// write answers a request with the error.
func (e *refusal) write(w http.ResponseWriter) {
	type detail struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	content, marshalErr := json.Marshal(map[string][]detail{"errors": {{e.code, e.message}}})
	if marshalErr != nil {
		content = nil
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Del("Content-Length")
	header.Del("Etag")
	w.WriteHeader(e.status)
	_, _ = w.Write(content) // who left does not read it
}

func writeJSON(w http.ResponseWriter, value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(content) // who left does not read it
	return nil
}
