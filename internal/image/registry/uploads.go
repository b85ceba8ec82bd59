package registry

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tinefn/tine/internal/image"
)

// upload is a session in which a client sends a blob.
type upload struct {
	id         string
	repository string
	timer      *time.Timer // ends it when nothing arrives

	mu    sync.Mutex // held while a request uses it; guards what follows
	blob  *image.Upload
	ended bool
}

// discard ends the session, of which nobody uses anything any more.
func (u *upload) discard() error {
	u.timer.Stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
	return u.blob.Discard()
}

// serveUpload serves /v2/<name>/blobs/uploads/ and sessions below it.
func (g *Registry) serveUpload(w http.ResponseWriter, r *http.Request, to route) error {
	if to.reference == "" {
		if r.Method != http.MethodPost {
			return errMethod
		}
		return g.beginUpload(w, r, to)
	}
	g.mu.Lock()
	u := g.uploads[to.reference]
	g.mu.Unlock()
	if u == nil || u.repository != to.repository {
		return uploadUnknown(to)
	}
	if !u.mu.TryLock() {
		return refuse(http.StatusConflict, codeUploadInvalid, "another request uses the upload %s", u.id)
	}
	defer u.mu.Unlock()
	if u.ended {
		return uploadUnknown(to)
	}
	u.timer.Stop()
	defer func() {
		if !u.ended {
			u.timer.Reset(g.opts.UploadTimeout)
		}
	}()
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		g.writeUpload(w, u, http.StatusNoContent)
		return nil
	case http.MethodPatch:
		if err := g.appendTo(w, r, u); err != nil {
			return err
		}
		g.writeUpload(w, u, http.StatusAccepted)
		return nil
	case http.MethodPut:
		return g.endUpload(w, r, to, u)
	case http.MethodDelete:
		g.forget(u)
		if err := u.blob.Discard(); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return errMethod
}

func uploadUnknown(to route) error {
	return refuse(http.StatusNotFound, codeUploadUnknown, "repository %s has no upload %s: it ended, or nothing arrived for too long", to.repository, to.reference)
}

// beginUpload starts a session, unless the request says all there is to say.
func (g *Registry) beginUpload(w http.ResponseWriter, r *http.Request, to route) error {
	query := r.URL.Query()
	if mount := query.Get("mount"); mount != "" {
		digest, err := image.ParseDigest(mount)
		if err != nil {
			return refuse(http.StatusBadRequest, codeDigestInvalid, "%v", err)
		}
		if _, ok := g.store.HasBlob(digest); ok {
			writeBlob(w, to, digest.String())
			return nil
		}
	}
	u, err := g.newUpload(to.repository)
	if err != nil {
		return err
	}
	defer u.mu.Unlock()
	if query.Get("digest") != "" {
		defer g.forget(u)
		return errors.Join(g.endUpload(w, r, to, u), u.blob.Discard())
	}
	u.timer.Reset(g.opts.UploadTimeout)
	g.writeUpload(w, u, http.StatusAccepted)
	return nil
}

// newUpload makes a session with its lock held and its timer stopped.
func (g *Registry) newUpload(repository string) (*upload, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return nil, image.ErrClosed
	case len(g.uploads) >= g.opts.Uploads:
		return nil, refuse(http.StatusTooManyRequests, codeTooManyRequests, "there are %d uploads already: try again", len(g.uploads))
	}
	blob, err := g.store.NewUpload()
	if err != nil {
		return nil, err
	}
	u := &upload{id: rand.Text(), repository: repository, blob: blob}
	u.mu.Lock()
	u.timer = time.AfterFunc(g.opts.UploadTimeout, func() { g.expire(u) })
	u.timer.Stop()
	g.uploads[u.id] = u
	return u, nil
}

// expire ends a session of which nothing arrived.
func (g *Registry) expire(u *upload) {
	if !u.mu.TryLock() {
		return // a request came, which starts the timer again
	}
	defer u.mu.Unlock()
	if u.ended {
		return
	}
	g.forget(u)
	if err := u.blob.Discard(); err != nil {
		g.log.Warn("upload that was given up", "error", err)
	}
}

// forget ends a session whose lock the caller holds.
func (g *Registry) forget(u *upload) {
	u.ended = true
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.uploads, u.id)
}

// appendTo adds a request's body to a blob.
func (g *Registry) appendTo(w http.ResponseWriter, r *http.Request, u *upload) error {
	if text := r.Header.Get("Content-Range"); text != "" {
		if err := checkRange(text, u.blob.Size(), r.ContentLength); err != nil {
			g.setUpload(w, u)
			return err
		}
	}
	body := io.Reader(&patientReader{r.Body, http.NewResponseController(w), g.opts.BodyTimeout})
	if most := g.opts.BlobBytes; most > 0 {
		if r.ContentLength > most-u.blob.Size() {
			return tooLarge(most)
		}
		body = io.LimitReader(body, most-u.blob.Size()+1)
	}
	_, err := io.Copy(writeErrors{u.blob}, body)
	if most := g.opts.BlobBytes; err == nil && most > 0 && u.blob.Size() > most {
		return tooLarge(most)
	}
	return clientGone(err)
}

func tooLarge(most int64) error {
	return refuse(http.StatusRequestEntityTooLarge, codeSizeInvalid, "a blob may have %d bytes at most, as the operator has set", most)
}

// checkRange checks that a chunk follows what is there: <first>-<last>.
func checkRange(text string, size, length int64) error {
	first, last, ok := strings.Cut(strings.TrimPrefix(text, "bytes "), "-")
	last, _, _ = strings.Cut(last, "/")
	from, err := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	switch {
	case !ok || err != nil || err2 != nil || from < 0 || to < from-1:
		return refuse(http.StatusBadRequest, codeUploadInvalid, "Content-Range is no range: %.40q", text)
	case from != size || length >= 0 && to-from+1 != length:
		return refuse(http.StatusRequestedRangeNotSatisfiable, codeUploadInvalid, "the chunk is %s, %d bytes are here", text, size)
	}
	return nil
}

// endUpload takes the last of a blob, which may be all, and stores it.
func (g *Registry) endUpload(w http.ResponseWriter, r *http.Request, to route, u *upload) error {
	digest, err := image.ParseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return refuse(http.StatusBadRequest, codeDigestInvalid, "%v", err)
	}
	if err := g.appendTo(w, r, u); err != nil {
		return err
	}
	g.forget(u)
	if _, err := u.blob.Commit(digest); err != nil {
		return err
	}
	writeBlob(w, to, digest.String())
	return nil
}

func writeBlob(w http.ResponseWriter, to route, digest string) {
	w.Header().Set("Location", "/v2/"+to.repository+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

func (g *Registry) setUpload(w http.ResponseWriter, u *upload) {
	header := w.Header()
	header.Set("Location", "/v2/"+u.repository+"/blobs/uploads/"+u.id)
	header.Set("Docker-Upload-Uuid", u.id)
	// Of nothing it is 0-0 too, as Docker's registry does it.
	header.Set("Range", fmt.Sprintf("0-%d", max(0, u.blob.Size()-1)))
}

func (g *Registry) writeUpload(w http.ResponseWriter, u *upload, status int) {
	g.setUpload(w, u)
	w.WriteHeader(status)
}

// boundBody bounds how long a body is waited for that is not read: net/http reads the
// rest of one before it answers. Whoever reads it has patientReader's time.
func boundBody(w http.ResponseWriter, r *http.Request, timeout time.Duration) {
	if r.ContentLength != 0 { // otherwise it would end the request
		// Servers that cannot do it have their own deadline for requests.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
	}
}

// patientReader gives a client so long for each part of a body, however long
// the whole takes.
type patientReader struct {
	io.Reader
	control *http.ResponseController
	timeout time.Duration
}

func (p *patientReader) Read(b []byte) (int, error) {
	// Servers that cannot do it have their own deadline for requests.
	_ = p.control.SetReadDeadline(time.Now().Add(p.timeout))
	n, err := p.Reader.Read(b)
	if err != nil {
		_ = p.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// patientWriter likewise gives a client so long to take each part.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

func (p *patientWriter) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(p.timeout))
	return p.ResponseWriter.Write(b)
}

// storeError is an error of the store while a body is copied; all others are of
// the client's connection.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

type writeErrors struct{ io.Writer }

func (w writeErrors) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = storeError{err}
	}
	return n, err
}

// clientGone makes an error of a client's connection the client's.
func clientGone(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[storeError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	return refuse(http.StatusBadRequest, codeUploadInvalid, "the request broke off: %v", err)
}
