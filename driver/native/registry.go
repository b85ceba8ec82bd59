//go:build linux

package native

import (
	"context"
	"net/http"
	"time"

	"github.com/tinefn/tine/internal/image"
	"github.com/tinefn/tine/internal/image/registry"
)

// RegistryOptions configures a [Registry]. Zero means the default of package
// internal/image/registry.
type RegistryOptions struct {
	// Accept says whether a password is the user's; nil: nobody is asked for one.
	Accept func(ctx context.Context, user, password string) bool
	// Pushed, if set, is told which names of images mean other ones since a push,
	// before its client knows that it succeeded. It may block as long as ctx lasts.
	Pushed func(ctx context.Context, is func(image string) bool)

	BlobBytes     int64         // of one blob
	Uploads       int           // at one time
	UploadTimeout time.Duration // of an upload of which nothing arrives
	BodyTimeout   time.Duration // for each part of a body
}

// Registry is an http.Handler that serves the driver's images to docker push and
// other clients of container registries. Close it before the driver, when no
// request is served any more.
type Registry struct{ served *registry.Registry }

// Registry returns a handler for the driver's images. By which hosts clients know
// it is in [Options].
func (d *Driver) Registry(opts RegistryOptions) (*Registry, error) {
	under := registry.Options{
		Host: image.OwnHost, Accept: opts.Accept, Logger: d.log,
		BlobBytes: opts.BlobBytes, Uploads: opts.Uploads, UploadTimeout: opts.UploadTimeout, BodyTimeout: opts.BodyTimeout,
	}
	if opts.Pushed != nil {
		under.Pushed = func(ctx context.Context, name string) {
			opts.Pushed(ctx, func(used string) bool {
				canonical, err := d.images.Canonical(used)
				return err == nil && canonical == name
			})
		}
	}
	served, err := registry.New(d.images, under)
	if err != nil {
		return nil, err
	}
	return &Registry{served}, nil
}

// ServeHTTP serves one request below /v2/.
func (r *Registry) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.served.ServeHTTP(w, request)
}

// Close drops the uploads that did not end.
func (r *Registry) Close() error { return r.served.Close() }
