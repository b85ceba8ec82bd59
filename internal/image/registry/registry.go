// Package registry serves an image store to docker push, docker pull and other
// clients of container registries.
//
// The wire format is that of the OCI distribution spec 1.1
// (opencontainers/distribution-spec, spec.md), which Docker's Registry HTTP API
// V2 became. Of what the spec leaves to registries: blobs are the same in all
// repositories, so a mount from any other one succeeds if the store has the blob;
// blobs are not deleted, they go with their images; an image for this host is
// refused if it cannot be unpacked.
//
// A pushed image is unpacked when its manifest arrives, before the push
// succeeds, so that it starts without a pull.
package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/tinefn/tine/internal/image"
)

// Defaults of [Options].
const (
	DefaultUploads       = 64
	DefaultUploadTimeout = 10 * time.Minute
	DefaultBodyTimeout   = time.Minute
)

// Options configures a [Registry].
type Options struct {
	// Host is how the images are named in the store, as in
	// 127.0.0.1:5000/fn/hello:1: the address that clients push to, or
	// image.OwnHost. It is required.
	Host string
	// Accept says whether a password is the user's. It is asked for with HTTP's
	// basic authentication, for everything; nil: nobody is asked.
	Accept        func(ctx context.Context, user, password string) bool
	ReadOnly      bool          // nothing can be pushed or deleted
	BlobBytes     int64         // of one blob that is pushed; 0: no limit but the store's
	Uploads       int           // that are open at one time; 0: DefaultUploads
	UploadTimeout time.Duration // of an upload of which nothing arrives; 0: DefaultUploadTimeout
	// BodyTimeout bounds how long a client may neither send nor take anything of
	// a body, however long the whole takes; 0: DefaultBodyTimeout.
	BodyTimeout time.Duration
	// Pushed, if set, is told the name in the store of what was pushed, after it
	// is there and before the client knows. It may block, as long as ctx lasts.
	Pushed func(ctx context.Context, name string)
	Logger *slog.Logger // nil: nothing is logged
}

// Registry is an http.Handler for paths below /v2/.
type Registry struct {
	store *image.Store
	opts  Options
	log   *slog.Logger

	mu      sync.Mutex // guards what follows
	closed  bool
	uploads map[string]*upload
}

// New makes a registry of a store. Close ends it.
func New(store *image.Store, opts Options) (*Registry, error) {
	name := opts.Host + "/a:b"
	if normalized, err := image.Normalize(name); err != nil || normalized != name {
		return nil, fmt.Errorf("registry: %q is no host of images: give it as host:port", opts.Host)
	}
	if opts.Uploads == 0 {
		opts.Uploads = DefaultUploads
	}
	if opts.UploadTimeout == 0 {
		opts.UploadTimeout = DefaultUploadTimeout
	}
	if opts.BodyTimeout == 0 {
		opts.BodyTimeout = DefaultBodyTimeout
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Registry{store: store, opts: opts, log: opts.Logger, uploads: map[string]*upload{}}, nil
}

// Close drops the uploads that did not end. No request may be served any more.
func (g *Registry) Close() error {
	g.mu.Lock()
	g.closed = true
	left := g.uploads
	g.uploads = map[string]*upload{}
	g.mu.Unlock()
	var err error
	for _, u := range left {
		err = errors.Join(err, u.discard())
	}
	return err
}

// Names of repositories. Source: OCI distribution spec, "Pulling manifests".
var repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

const longestName = 255 // with the host; clients do not take longer ones

// route is a request's path, taken apart.
type route struct {
	repository string // as in the path, without the host
	kind       string // manifests, blobs, uploads, tags, referrers
	reference  string // tag, digest or upload
}

// parsePath takes a path below /v2/ apart. Names of repositories have slashes
// in them and may have parts that look like kinds, so it is read from its end.
func parsePath(path string) (route, bool) {
	parts := strings.Split(path, "/")
	n := len(parts)
	at := func(i int) string { // from the end
		if i > n {
			return ""
		}
		return parts[n-i]
	}
	switch {
	case n >= 4 && at(3) == "blobs" && at(2) == "uploads":
		return route{strings.Join(parts[:n-3], "/"), "uploads", at(1)}, true
	case n >= 3 && at(2) == "blobs" && at(1) == "uploads": // without the final slash
		return route{strings.Join(parts[:n-2], "/"), "uploads", ""}, true
	case n >= 3 && at(2) == "tags" && at(1) == "list":
		return route{strings.Join(parts[:n-2], "/"), "tags", ""}, true
	case n >= 3 && (at(2) == "manifests" || at(2) == "blobs" || at(2) == "referrers") && at(1) != "":
		return route{strings.Join(parts[:n-2], "/"), at(2), at(1)}, true
	}
	return route{}, false
}

// ServeHTTP serves one request.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// What old clients know a registry by.
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	boundBody(w, r, g.opts.BodyTimeout)
	if err := g.serve(w, r); err != nil {
		g.fail(w, r, err)
	}
}

func (g *Registry) serve(w http.ResponseWriter, r *http.Request) error {
	if !g.mayEnter(r) {
		w.Header().Set("Www-Authenticate", `Basic realm="images", charset="UTF-8"`)
		return refuse(http.StatusUnauthorized, codeUnauthorized, "this registry asks for a user and a password: docker login %.100s", r.Host)
	}
	isRead := r.Method == http.MethodGet || r.Method == http.MethodHead
	if g.opts.ReadOnly && !isRead {
		return refuse(http.StatusMethodNotAllowed, codeUnsupported, "this registry is read-only")
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2")
	if !ok || path != "" && path[0] != '/' {
		return errNoRoute
	}
	switch path = strings.TrimPrefix(path, "/"); path {
	case "":
		return g.base(w, r)
	case "_catalog":
		return g.catalog(w, r)
	}
	to, ok := parsePath(path)
	if !ok {
		return errNoRoute
	}
	if !repositoryName.MatchString(to.repository) || len(g.name(to.repository)) > longestName {
		return refuse(http.StatusBadRequest, codeNameInvalid, "repository %.300q is not a name: lower case letters, digits, and separators", to.repository)
	}
	switch to.kind {
	case "manifests":
		return g.manifests(w, r, to)
	case "blobs":
		return g.blobs(w, r, to)
	case "uploads":
		return g.serveUpload(w, r, to)
	case "tags":
		return g.tags(w, r, to)
	case "referrers":
		return g.referrers(w, r, to)
	}
	return errNoRoute
}

// name is a repository's name in the store.
func (g *Registry) name(repository string) string { return g.opts.Host + "/" + repository }

// mayEnter reports whether the request has a user's password, if that is needed.
func (g *Registry) mayEnter(r *http.Request) bool {
	if g.opts.Accept == nil {
		return true
	}
	user, password, given := r.BasicAuth()
	return given && g.opts.Accept(r.Context(), user, password)
}

// base tells clients that this is a registry, and whether they may enter.
func (g *Registry) base(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errMethod
	}
	return writeJSON(w, struct{}{})
}
