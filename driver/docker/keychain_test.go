package docker

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

func TestKeychainHasTheCredentialsOfTheSetting(t *testing.T) {
	k, err := Keychain([]byte(`{"auths":{"r.example.com:5000":{"username":"u","password":"p"},"index.docker.io":{"username":"h","password":"q"}}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{"r.example.com:5000/a/b:1": "u", "busybox": "h", "other.example.com/a": ""} {
		ref, err := name.ParseReference(image)
		if err != nil {
			t.Fatal(err)
		}
		found, err := k.Resolve(ref.Context())
		if err != nil {
			t.Fatal(err)
		}
		config, err := authn.Authorization(t.Context(), found)
		if err != nil || config.Username != want {
			t.Errorf("%s: %+v, %v", image, config, err)
		}
	}
	if _, err := Keychain([]byte("secret"), ""); err == nil {
		t.Error("what is no JSON is accepted")
	}
	none, err := Keychain(nil, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference("busybox")
	if err != nil {
		t.Fatal(err)
	}
	if found, err := none.Resolve(ref.Context()); err != nil || found != authn.Anonymous {
		t.Errorf("without a file: %v, %v", found, err)
	}
}
