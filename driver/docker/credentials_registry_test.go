package docker_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/api/types/registry"

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
	image.Push(t, local, ref, registry.AuthConfig{Username: image.RegistryUser, Password: image.RegistryPassword})
	return ref, address
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
			image.Untag(t, ref)
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
