//go:build linux

package native

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/tinefn/tine/internal/image"
	"github.com/tinefn/tine/internal/imageaccess"
)

// registries are asked by the store of images.
type registries struct{ driver *Driver }

var _ imageaccess.Registry = registries{}

func (r registries) Digest(ctx context.Context, named reference.Named, who imageaccess.Puller) (string, error) {
	digest, err := r.driver.images.RemoteDigest(ctx, named.String(), image.PullOptions{Auth: who.Authenticator(), Once: true})
	if err != nil {
		return "", err
	}
	return digest.String(), nil
}

func (r registries) Pull(ctx context.Context, asked string, _ reference.Named, who imageaccess.Puller, log *slog.Logger) error {
	var last atomic.Pointer[image.Progress]
	last.Store(&image.Progress{})
	stop := imageaccess.LogProgress(log, func() imageaccess.Progress {
		p := last.Load()
		return imageaccess.Progress{Layers: p.Layers, LayersDone: p.LayersDone, Bytes: p.BytesTotal, BytesDone: p.BytesDone}
	})
	defer stop()
	_, err := r.driver.images.Pull(ctx, asked, image.PullOptions{
		Auth: who.Authenticator(), Once: true,
		Progress: func(p image.Progress) { last.Store(&p) },
	})
	return err
}

// Refusal tells what the registry said from what became of asking it. No engine is
// in between that could be lost.
func (registries) Refusal(err error) imageaccess.Refusal {
	refusal := imageaccess.Refusal{Message: err.Error(), Passing: passing(err)}
	if answer, ok := errors.AsType[*transport.Error](err); ok {
		refusal.Message = answer.Error() // what is around it says the image's name once more
		if answer.StatusCode < http.StatusInternalServerError {
			refusal.Status = answer.StatusCode
		}
	} else if errors.Is(err, image.ErrInvalid) {
		refusal.Status = http.StatusBadRequest
	}
	return refusal
}

// passing reports whether a registry may do soon what it did not do now: it is
// overloaded, or the connection to it broke.
func passing(err error) bool {
	if answer, ok := errors.AsType[*transport.Error](err); ok {
		switch answer.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
			return true
		}
		return answer.StatusCode >= http.StatusInternalServerError
	}
	if errors.Is(err, image.ErrInvalid) || errors.Is(err, image.ErrNoSpace) {
		return false
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok {
		return unknown.IsTemporary || unknown.IsTimeout
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, broken) {
			return true
		}
	}
	late, ok := errors.AsType[net.Error](err)
	return ok && late.Timeout()
}
