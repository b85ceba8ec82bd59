package image

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Load loads an archive of an image, as docker save writes it, into the engine of
// DOCKER_HOST. If the tag, which says what the image contains, is there already,
// nothing is done.
func Load(ctx context.Context, tag, archive string) error {
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return fmt.Errorf("load image %s: %w", tag, err)
	}
	defer engine.Close()
	_, err = engine.ImageInspect(ctx, tag)
	if err == nil {
		return nil
	}
	if !errdefs.IsNotFound(err) {
		return fmt.Errorf("load image %s: %w", tag, err)
	}
	file, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("load image %s: %w", tag, err)
	}
	defer file.Close() //nolint:errcheck // it is only read
	result, err := engine.ImageLoad(ctx, file)
	if err != nil {
		return fmt.Errorf("load image %s: %w", tag, err)
	}
	if err := follow(result); err != nil {
		return fmt.Errorf("load image %s: %w", tag, err)
	}
	if _, err := engine.ImageInspect(ctx, tag); err != nil {
		return fmt.Errorf("load image %s: archive %s does not have it: %w", tag, archive, err)
	}
	return nil
}
