package image

import (
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// choose returns the descriptor of an index that fits a platform best, or nil
// and what there is.
func choose(index *v1.IndexManifest, want v1.Platform) (*v1.Descriptor, []v1.Platform) {
	var best, only *v1.Descriptor
	var have []v1.Platform
	bestRank := 0
	for i := range index.Manifests {
		d := &index.Manifests[i]
		if !d.MediaType.IsImage() {
			continue
		}
		platform := v1.Platform{}
		if d.Platform != nil {
			platform = *d.Platform
		}
		if platform.OS == "unknown" { // BuildKit's attestations
			continue
		}
		have = append(have, platform)
		only = d
		if rank := fits(platform, want); rank > bestRank {
			best, bestRank = d, rank
		}
	}
	if best == nil && len(have) == 1 && have[0].OS == "" && have[0].Architecture == "" {
		return only, have // of a builder that did not say: its config tells
	}
	return best, have
}

// fits ranks how well what runs on one platform runs on another; 0: not.
func fits(have, want v1.Platform) int {
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return 0
	}
	haveVariant, wantVariant := variant(have), variant(want)
	switch {
	case haveVariant == wantVariant:
		return 100
	case haveVariant < wantVariant: // v6 runs on v7
		return 50 + haveVariant
	}
	return 0
}

// variant is the number of a processor's variant. Sources: OCI image spec,
// image-index.md, and Go's GOARM and GOAMD64 for what is meant if none is given.
func variant(p v1.Platform) int {
	if text := strings.TrimPrefix(p.Variant, "v"); len(text) == 1 && text[0] >= '1' && text[0] <= '9' {
		return int(text[0] - '0')
	}
	switch p.Architecture {
	case "arm":
		return 7
	case "arm64":
		return 8
	}
	return 1
}

// platformOf is what a config says. Some builders say nothing.
func platformOf(config *v1.ConfigFile) v1.Platform {
	return v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}
}

// runsHere reports whether an image with that config runs on this host.
func (s *Store) runsHere(config *v1.ConfigFile) bool {
	have := platformOf(config)
	withDefault(&have.OS, s.opts.Platform.OS)
	withDefault(&have.Architecture, s.opts.Platform.Architecture)
	return fits(have, s.opts.Platform) > 0
}
