package registry

import (
	"errors"
	"net/http"
	"time"

	"github.com/tinefn/tine/internal/image"
)

// blobs serves /v2/<name>/blobs/<digest>.
func (g *Registry) blobs(w http.ResponseWriter, r *http.Request, to route) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errMethod // blobs go with their images
	}
	digest, err := image.ParseDigest(to.reference)
	if err != nil {
		return refuse(http.StatusBadRequest, codeDigestInvalid, "%v", err)
	}
	// Who asks may be about to push a manifest that refers to it.
	g.store.HasBlob(digest)
	file, _, err := g.store.OpenBlob(digest)
	if errors.Is(err, image.ErrNotFound) {
		return refuse(http.StatusNotFound, codeBlobUnknown, "the registry has no blob %s", digest)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Docker-Content-Digest", digest.String())
	header.Set("Etag", `"`+digest.String()+`"`)
	header.Set("Cache-Control", "max-age=31536000, immutable")
	control := http.NewResponseController(w)
	http.ServeContent(&patientWriter{w, control, g.opts.BodyTimeout}, r, "", time.Time{}, file) // also ranges
	_ = control.SetWriteDeadline(time.Time{})                                                   // the connection has other requests
	return nil
}
