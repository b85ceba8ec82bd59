package docker

import (
	"context"
	"iter"
	"log/slog"
	"sync"

	"github.com/containerd/errdefs/pkg/errhttp"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/tinefn/tine/internal/imageaccess"
)

// progress is how far a pull is, as the engine reports it.
type progress struct {
	mu     sync.Mutex // guards layers
	layers map[string]layer
}

// layer is a part of an image. Engines tell the size of those that they download.
type layer struct {
	done          bool
	loaded, total int64 // bytes
}

// What engines say of a layer, after its identifier.
const (
	layerAnnounced  = "Pulling fs layer"
	layerWaits      = "Waiting"
	layerDownloads  = "Downloading"
	layerDownloaded = "Download complete"
	layerPresent    = "Already exists"
	layerPulled     = "Pull complete"
)

// follow reads a pull's report to its end, and logs from time to time how far it
// is. It returns the error that the report ends with.
func follow(ctx context.Context, report iter.Seq2[jsonstream.Message, error], log *slog.Logger) error {
	p := &progress{layers: map[string]layer{}}
	defer imageaccess.LogProgress(log, p.now)()
	for line, err := range report {
		switch {
		case err != nil:
			return err
		case line.Error != nil && line.Error.Code != 0:
			return reportedError{line.Error, errhttp.ToNative(line.Error.Code)}
		case line.Error != nil:
			return line.Error
		}
		p.note(line)
	}
	return ctx.Err() // a stream that ends with its context is not at its end
}

// note takes in one line of the report.
func (p *progress) note(line jsonstream.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, known := p.layers[line.ID]
	switch line.Status {
	case layerAnnounced, layerWaits:
	case layerDownloads:
		if line.Progress != nil {
			l.loaded, l.total = line.Progress.Current, line.Progress.Total
		}
	case layerDownloaded:
		l.loaded = l.total
	case layerPresent, layerPulled:
		l.loaded, l.done = l.total, true
	default:
		if !known { // it is about the image
			return
		}
	}
	p.layers[line.ID] = l
}

// now sums it up.
func (p *progress) now() imageaccess.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := imageaccess.Progress{Layers: len(p.layers)}
	for _, l := range p.layers {
		if l.done {
			sum.LayersDone++
		}
		sum.BytesDone += l.loaded
		sum.Bytes += l.total
	}
	return sum
}
