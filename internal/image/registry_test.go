package image

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	testimage "github.com/tinefn/tine/test/image"
)

func parseReference(t *testing.T, text string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestPullFromDockersRegistry(t *testing.T) {
	made := small(t, "1", "2")
	ref := testimage.Registry(t) + "/fn/hello:1"
	if err := remote.Write(parseReference(t, ref), made); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, Options{})
	if got := mustPull(t, s, ref); got.Manifest != digestOf(t, made) {
		t.Errorf("got %+v", got)
	}
	_, err := s.Pull(t.Context(), strings.TrimSuffix(ref, "1")+"absent", PullOptions{})
	if refused, ok := errors.AsType[*transport.Error](err); !ok || refused.StatusCode != http.StatusNotFound {
		t.Errorf("absent: %v", err)
	}
}

func TestPullWithCredentials(t *testing.T) {
	address := testimage.PrivateRegistry(t)
	ref := address + "/fn/private:1"
	right, wrong := &authn.Basic{Username: "reader", Password: "secret"}, &authn.Basic{Username: "reader", Password: "wrong"}
	if err := remote.Write(parseReference(t, ref), small(t, "private"), remote.WithAuth(right)); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, Options{})
	for name, opts := range map[string]PullOptions{"nobody": {}, "wrong": {Auth: wrong}} {
		_, err := s.Pull(t.Context(), ref, opts)
		if refused, ok := errors.AsType[*transport.Error](err); !ok || refused.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, opts := range map[string]PullOptions{"nobody": {}, "wrong": {Auth: wrong}} {
		if got, err := s.RemoteDigest(t.Context(), ref, opts); err == nil {
			t.Errorf("%s is told %s", name, got)
		}
	}
	got, err := s.Pull(t.Context(), ref, PullOptions{Auth: right})
	if err != nil {
		t.Fatal(err)
	}
	if digest, err := s.RemoteDigest(t.Context(), ref, PullOptions{Auth: right}); err != nil || digest != got.Target {
		t.Errorf("the registry has %s, %v; want %s", digest, err, got.Target)
	}
}
