package docker

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
)

func TestPullStatus(t *testing.T) {
	tests := map[string]struct {
		err  error
		want int
	}{
		"code in the stream":      {err: fmt.Errorf("wrapped: %w", &jsonstream.Error{Code: 418, Message: "tea"}), want: 418},
		"no code in the stream":   {err: &jsonstream.Error{Message: "manifest unknown: manifest unknown"}, want: 404},
		"engine's 404":            {err: errdefs.ErrNotFound.WithMessage("gone"), want: 404},
		"engine's 401":            {err: errdefs.ErrUnauthenticated.WithMessage("who"), want: 401},
		"engine's 403":            {err: errdefs.ErrPermissionDenied.WithMessage("no"), want: 403},
		"engine's 400":            {err: errdefs.ErrInvalidArgument.WithMessage("what"), want: 400},
		"engine's 429":            {err: errdefs.ErrResourceExhausted.WithMessage("slow"), want: 429},
		"denied, unauthorized":    {err: errors.New("pull access denied for a, unauthorized: b"), want: 404},
		"not found":               {err: errors.New("a: not found"), want: 404},
		"unauthorized":            {err: errors.New("unauthorized: authentication required"), want: 401},
		"credentials are needed":  {err: errors.New("Head http://r/: no basic auth credentials"), want: 401},
		"not a registry's answer": {err: errors.New("error parsing HTTP 403 response body: unexpected end of JSON input"), want: 403},
		"anything else":           {err: errors.New("dial tcp 127.0.0.1:1: connect: connection refused"), want: 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := pullStatus(tt.err); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
