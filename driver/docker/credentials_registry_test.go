package docker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/test/image"
)

// privateImage pushes an image to a registry that asks for a name and a password.
func privateImage(t *testing.T) (ref, address string) {
	t.Helper()
	local := image.TestFn(t)
	address = image.PrivateRegistry(t)
	ref = address + "/tine-test/private:1"
	push(t, local, ref, registry.AuthConfig{Username: image.RegistryUser, Password: image.RegistryPassword})
	return ref, address
}

// push puts a local image into a registry, as whom auth says, and leaves it without
// that name on the engine. What is pulled under it is without it after the test too.
func push(t *testing.T, local, ref string, auth registry.AuthConfig) {
	t.Helper()
	engine := engineClient(t)
	if _, err := engine.ImageTag(t.Context(), client.ImageTagOptions{Source: local, Target: ref}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { untag(t, ref) })
	encoded, err := authconfig.Encode(auth)
	if err != nil {
		t.Fatal(err)
	}
	report, err := engine.ImagePush(t.Context(), ref, client.ImagePushOptions{RegistryAuth: encoded})
	if err == nil {
		err = report.Wait(t.Context())
	}
	if err != nil {
		t.Fatalf("push: %v", err)
	}
	untag(t, ref)
}

// untag takes the name from an image, which stays: it has another one.
func untag(t *testing.T, ref string) {
	t.Helper()
	_, _ = engineClient(t).ImageRemove(context.WithoutCancel(t.Context()), ref, client.ImageRemoveOptions{})
}

func TestPrivateImageIsPulledWithCredentials(t *testing.T) {
	ref, address := privateImage(t)
	config := func(password string) []byte {
		return fmt.Appendf(nil, `{"auths":{"http://%s/v2/":{"username":"reader","password":%q}}}`, address, password)
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		opts docker.Options
		file []byte // config.json in dir
		want int    // status of the refusal; 0: none
	}{
		{"nobody", docker.Options{}, nil, http.StatusUnauthorized},
		{"wrong password", docker.Options{Auth: config("guess")}, nil, http.StatusUnauthorized},
		{"setting", docker.Options{Auth: config("secret")}, nil, 0},
		{"no file", docker.Options{ConfigDir: dir}, nil, http.StatusUnauthorized},
		{"file", docker.Options{ConfigDir: dir}, config("secret"), 0},
		{"setting before file", docker.Options{Auth: config("guess"), ConfigDir: dir}, config("secret"), http.StatusUnauthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			untag(t, ref)
			d := open(t, tt.opts)
			defer closeNow(t, d)
			if tt.file != nil { // after the driver was made, as by docker login
				if err := os.WriteFile(filepath.Join(dir, "config.json"), tt.file, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: ref})
			refused, isRefusal := errors.AsType[*driver.PullError](err)
			switch {
			case tt.want == 0 && err != nil:
				t.Error(err)
			case tt.want != 0 && (!isRefusal || refused.Status != tt.want):
				t.Errorf("got %v, want status %d", err, tt.want)
			}
		})
	}
}
