package registry

import (
	"encoding/json"
	"net/http"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/tinefn/tine/internal/image"
)

// referrers serves /v2/<name>/referrers/<digest>. A repository that does not
// exist has none, as the spec has it.
func (g *Registry) referrers(w http.ResponseWriter, r *http.Request, to route) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errMethod
	}
	digest, err := image.ParseDigest(to.reference)
	if err != nil {
		return refuse(http.StatusBadRequest, codeDigestInvalid, "%v", err)
	}
	found, err := g.store.Referrers(g.name(to.repository), digest)
	if err != nil {
		return err
	}
	if wanted := r.URL.Query().Get("artifactType"); wanted != "" {
		found = slices.DeleteFunc(found, func(d v1.Descriptor) bool { return d.ArtifactType != wanted })
		w.Header().Set("Oci-Filters-Applied", "artifactType")
	}
	content, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: found})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", string(types.OCIImageIndex))
	_, _ = w.Write(content) // who left does not read it
	return nil
}
