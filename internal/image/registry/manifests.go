package registry

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/tinefn/tine/internal/image"
)

// manifests serves /v2/<name>/manifests/<tag or digest>.
func (g *Registry) manifests(w http.ResponseWriter, r *http.Request, to route) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return g.getManifest(w, r, to)
	case http.MethodPut:
		return g.putManifest(w, r, to)
	case http.MethodDelete:
		return g.deleteManifest(w, to)
	}
	return errMethod
}

func manifestUnknown(to route) error {
	return refuse(http.StatusNotFound, codeManifestUnknown, "repository %s has no manifest %s", to.repository, to.reference)
}

func (g *Registry) getManifest(w http.ResponseWriter, r *http.Request, to route) error {
	m, err := g.store.FindManifest(g.name(to.repository), to.reference)
	if errors.Is(err, image.ErrNotFound) {
		return manifestUnknown(to)
	}
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", string(m.Type))
	header.Set("Content-Length", strconv.Itoa(len(m.Content)))
	header.Set("Docker-Content-Digest", m.Digest.String())
	header.Set("Etag", `"`+m.Digest.String()+`"`)
	if r.Method == http.MethodGet {
		_, _ = w.Write(m.Content) // who left does not read it
	}
	return nil
}

func (g *Registry) putManifest(w http.ResponseWriter, r *http.Request, to route) error {
	content, err := io.ReadAll(http.MaxBytesReader(w, io.NopCloser(&patientReader{r.Body, http.NewResponseController(w), g.opts.BodyTimeout}), g.store.Limits().ManifestBytes))
	if err != nil {
		return clientGone(err)
	}
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	m, err := g.store.PutManifest(r.Context(), g.name(to.repository), to.reference, strings.TrimSpace(mediaType), content)
	if errors.Is(err, image.ErrNotFound) {
		return refuse(http.StatusBadRequest, codeManifestBlobUnknown, "%v: push it first", err)
	}
	if err != nil {
		return err
	}
	name := nameOf(g.name(to.repository), to.reference)
	g.log.Info("image was pushed", "name", name, "digest", m.Digest.String())
	if g.opts.Pushed != nil {
		g.opts.Pushed(r.Context(), name)
	}
	header := w.Header()
	header.Set("Location", "/v2/"+to.repository+"/manifests/"+m.Digest.String())
	header.Set("Docker-Content-Digest", m.Digest.String())
	if subject := m.Subject(); subject != (v1.Hash{}) {
		header.Set("Oci-Subject", subject.String()) // it will be listed as a referrer
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func nameOf(repository, reference string) string {
	if strings.Contains(reference, ":") {
		return repository + "@" + reference
	}
	return repository + ":" + reference
}

// deleteManifest removes a tag, or a manifest with all of its tags here.
func (g *Registry) deleteManifest(w http.ResponseWriter, to route) error {
	var err error
	if strings.Contains(to.reference, ":") {
		name := g.name(to.repository) + "@" + to.reference
		found, getErr := g.store.Get(name)
		if err = getErr; err == nil && found.Target.String() != to.reference {
			return manifestUnknown(to) // a part of an index, which is needed
		}
		if err == nil {
			err = g.store.Remove(name)
		}
	} else {
		err = g.store.Untag(g.name(to.repository) + ":" + to.reference)
	}
	if errors.Is(err, image.ErrNotFound) {
		return manifestUnknown(to)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
