package docker

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
)

func TestPassingTroubleIsToldFromRefusals(t *testing.T) {
	for text, want := range map[string]bool{
		"dial tcp 127.0.0.1:1: connect: connection refused":                          true,
		"read tcp 10.0.0.1:1->10.0.0.2:443: read: connection reset by peer":          true,
		"Get \"https://r/v2/\": net/http: TLS handshake timeout":                     true,
		"Get \"https://r/v2/\": dial tcp 10.0.0.2:443: i/o timeout":                  true,
		"Get \"https://r/v2/\": context deadline exceeded (Client.Timeout exceeded)": true,
		"unexpected EOF": true,
		"received unexpected HTTP status: 503 Service Unavailable":                               true,
		"error parsing HTTP 502 response body: invalid character '<'":                            true,
		"unexpected status from HEAD request to https://r/v2/a/manifests/1: 500 Internal Server": true,
		"toomanyrequests: You have reached your pull rate limit":                                 true,
		"error parsing HTTP 429 response body: unexpected end of JSON input":                     true,
		"unauthorized: authentication required":                                                  false,
		"manifest for r:5000/a:503 not found: manifest unknown":                                  false,
		"pull access denied for a, repository does not exist":                                    false,
		"denied: requested access to the resource is denied":                                     false,
		"received unexpected HTTP status: 403 Forbidden":                                         false,
		"dial tcp: lookup nowhere.example: no such host":                                         false,
		"no matching manifest for linux/amd64 in the manifest list entries":                      false,
		"error parsing HTTP 200 response body: invalid character 'g'":                            false,
	} {
		if got := passing(errors.New(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"engine's 404":        {errdefs.ErrNotFound.WithMessage("503 Service Unavailable"), false},
		"engine's 429":        {errdefs.ErrResourceExhausted.WithMessage("slow"), true},
		"503 in the stream":   {&jsonstream.Error{Code: 503, Message: "no"}, true},
		"404 in the stream":   {&jsonstream.Error{Code: 404, Message: "no"}, false},
		"500 hides something": {&jsonstream.Error{Code: 500, Message: "no"}, false},
	} {
		if got := passing(tt.err); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestRegistryThatDoesNotAnswerIsNoLostEngine(t *testing.T) {
	answered := fmt.Errorf("%s%w", daemonPrefix, errdefs.ErrUnavailable.WithMessage("unexpected status: 503 Service Unavailable"))
	if engineLost(answered) || engineLost(&jsonstream.Error{Code: 503}) {
		t.Error("the engine answered")
	}
	if !engineLost(io.ErrUnexpectedEOF) {
		t.Error("the connection to the engine broke")
	}
}
