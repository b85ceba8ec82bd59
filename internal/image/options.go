package image

import (
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Defaults of [Options] and [Limits].
const (
	DefaultParallel  = 3         // layers that are fetched at one time by a pull, and unpacked by all together
	DefaultOrphanAge = time.Hour // how long a blob may wait for the manifest that refers to it
	DefaultSetting   = "FN_IMAGES_DIR"

	DefaultLayerBytes    = 16 << 30
	DefaultLayerFiles    = 1 << 20
	DefaultPathLength    = 4095 // Linux, limits.h: PATH_MAX less its final zero
	DefaultPathDepth     = 255
	DefaultRatio         = 200
	DefaultRatioFloor    = 256 << 20
	DefaultBlobBytes     = 16 << 30
	DefaultImageBytes    = 64 << 30
	DefaultManifestBytes = 4 << 20 // OCI distribution spec: registries should take manifests of that size
	DefaultConfigBytes   = 1 << 20 // usual ones have some KiB; parsed, it takes up to thirty times that
	DefaultConfigEntries = 10_000
	DefaultLayers        = 125 // as Docker; overlayfs takes up to 500 lower directories
	DefaultArchiveFiles  = 10_000
)

// Options configures a [Store]. The zero value works.
type Options struct {
	Logger   *slog.Logger // nil: nothing is logged
	Platform v1.Platform  // which image of an index is taken; zero: Linux on this processor
	Limits   Limits
	// Parallel is how many layers one pull fetches at a time, and how many are unpacked
	// at a time for all pulls, pushes and imports together; 0: DefaultParallel.
	Parallel int

	// Transport asks registries; nil: the registry client's own.
	Transport http.RoundTripper

	// KeepSetID keeps the set-uid and set-gid bits of files. Functions need
	// neither, and a file with one is how a process gets more rights.
	KeepSetID bool

	// OrphanAge is how long Collect spares blobs and layers that no image
	// refers to, because a push or a pull may be about to; 0: DefaultOrphanAge.
	OrphanAge time.Duration

	// MakeRoom, if set, is called when the disk is full. It reports whether
	// something was freed, and may call Collect; ctx is that of who needs the room.
	MakeRoom func(ctx context.Context) bool

	// Stored, if set, is called when an image was pulled, pushed or imported. It
	// must not block.
	Stored func()

	// OwnHosts are those by which clients know the registry that is served from
	// the store, such as 127.0.0.1:5050: names that begin with one are of OwnHost.
	OwnHosts []string

	// Setting is what the operator sets the store's directory by, for the
	// texts of errors; empty: DefaultSetting.
	Setting string

	// CleanSetting is what the operator lets unused images be removed by, for such
	// texts where MakeRoom is not set; empty: nothing.
	CleanSetting string
}

// Limits bound what an image from elsewhere can make the store do. Zero means
// the default of the same name.
type Limits struct {
	LayerBytes    int64 // of one layer's uncompressed archive, and of its files
	LayerFiles    int   // entries of one layer
	PathLength    int   // bytes of a path in a layer
	PathDepth     int   // directories of a path in a layer
	Ratio         int64 // uncompressed bytes for each compressed one, of a layer of more than RatioFloor
	RatioFloor    int64 // uncompressed bytes from which Ratio holds: small files of zeros are no bomb
	BlobBytes     int64 // of one blob, as pushed
	ImageBytes    int64 // of all blobs of one image, or all files of an archive
	ManifestBytes int64
	ConfigBytes   int64
	ConfigEntries int // variables, arguments and volumes that a config has: they stay in memory
	Layers        int // of one image
	ArchiveFiles  int // entries of an archive that is imported
}

func withDefault[T comparable](value *T, standard T) {
	var zero T
	if *value == zero {
		*value = standard
	}
}

func (l Limits) withDefaults() Limits {
	withDefault(&l.LayerBytes, DefaultLayerBytes)
	withDefault(&l.LayerFiles, DefaultLayerFiles)
	withDefault(&l.PathLength, DefaultPathLength)
	withDefault(&l.PathDepth, DefaultPathDepth)
	withDefault(&l.Ratio, DefaultRatio)
	withDefault(&l.RatioFloor, DefaultRatioFloor)
	withDefault(&l.BlobBytes, DefaultBlobBytes)
	withDefault(&l.ImageBytes, DefaultImageBytes)
	withDefault(&l.ManifestBytes, DefaultManifestBytes)
	withDefault(&l.ConfigBytes, DefaultConfigBytes)
	withDefault(&l.ConfigEntries, DefaultConfigEntries)
	withDefault(&l.Layers, DefaultLayers)
	withDefault(&l.ArchiveFiles, DefaultArchiveFiles)
	return l
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Platform.OS == "" && o.Platform.Architecture == "" {
		o.Platform = v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	if o.Transport == nil {
		o.Transport = remote.DefaultTransport
	}
	withDefault(&o.Parallel, DefaultParallel)
	withDefault(&o.OrphanAge, DefaultOrphanAge)
	withDefault(&o.Setting, DefaultSetting)
	o.Limits = o.Limits.withDefaults()
	return o
}
