package docker

import (
	"github.com/moby/moby/api/types/image"

	"github.com/tinefn/tine/internal/imageaccess"
)

// localImage is what the engine says of an image that it has.
type localImage struct {
	*imageaccess.Image
	size    int64 // bytes
	volumes bool  // it declares some
}

func newLocalImage(info image.InspectResponse) *localImage {
	return &localImage{
		Image: imageaccess.NewImage(info.ID, info.RepoTags, info.RepoDigests),
		size:  info.Size, volumes: info.Config != nil && len(info.Config.Volumes) > 0,
	}
}
