//go:build linux

package native_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native"
	"github.com/tinefn/tine/test/image"
)

var reader = authn.AuthConfig{Username: image.RegistryUser, Password: image.RegistryPassword}

// push puts an image that is nowhere else into a registry.
func push(t *testing.T, ref, content string, auth authn.AuthConfig) v1.Image {
	t.Helper()
	made, err := imageOf([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, made, remote.WithAuth(authn.FromConfig(auth))); err != nil {
		t.Fatal(err)
	}
	return made
}

// asked counts what a registry is asked for.
type asked struct{ manifests, blobs atomic.Int64 }

// counted is a registry that asks for a password, and what it is asked.
func counted(t *testing.T) (address string, count *asked) {
	t.Helper()
	count = &asked{}
	return image.FrontRegistry(t, image.PrivateRegistry(t), func(_ http.ResponseWriter, r *http.Request) bool {
		if _, _, named := r.BasicAuth(); !named || r.Method != http.MethodGet {
			return false
		}
		if strings.Contains(r.URL.Path, "/manifests/") {
			count.manifests.Add(1)
		} else if strings.Contains(r.URL.Path, "/blobs/") {
			count.blobs.Add(1)
		}
		return false
	}), count
}

// apps are files with the credentials of apps for one registry.
func apps(t *testing.T, address string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for app, password := range map[string]string{"owner": image.RegistryPassword, "friend": image.RegistryPassword, "guesser": "guess"} {
		text := fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, address, image.RegistryUser, password)
		if err := os.WriteFile(filepath.Join(dir, app+".json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func ensure(t *testing.T, d *native.Driver, app, name string) error {
	t.Helper()
	_, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: name, Tenant: app})
	return err
}

func closeNow(t *testing.T, d *native.Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestTokenOfACallPullsTheImage(t *testing.T) {
	const token = "tok-3n-of-a-call"
	address := image.TokenRegistry(t, image.Registry(t), token)
	ref := address + "/tine-test/token:1"
	push(t, ref, "token", authn.AuthConfig{RegistryToken: token})
	var log bytes.Buffer
	d := openEmpty(t, func(o *native.Options) {
		o.Logger, o.AccessTTL = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), -1
	})
	defer closeNow(t, d)
	ensure := func(token string) error {
		_, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: ref, Tenant: "a", Token: token})
		return err
	}
	if ensure("") == nil {
		t.Error("pulled without a token")
	}
	image.WantStatus(t, "another token", ensure("another"), http.StatusUnauthorized)
	image.WantStatus(t, "the token", ensure(token), -1)
	image.WantStatus(t, "the token again", ensure(token), -1)
	image.WantStatus(t, "another token, after the pull", ensure("another"), http.StatusUnauthorized)
	if ensure("") == nil {
		t.Error("given out without a token, after the pull")
	}
	if strings.Contains(log.String(), token) {
		t.Errorf("the token is in the log: %s", &log)
	}
}

func TestPrivateImageIsPulledWithCredentialsOfTheNode(t *testing.T) {
	address := image.PrivateRegistry(t)
	ref := address + "/tine-test/private:1"
	push(t, ref, "of the node", reader)
	config := func(password string) []byte {
		return fmt.Appendf(nil, `{"auths":{"http://%s/v2/":{"username":"reader","password":%q}}}`, address, password)
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		auth []byte
		file []byte // config.json in dir
		want int    // status of the refusal
	}{
		{"nobody", nil, nil, http.StatusUnauthorized},
		{"wrong password", config("guess"), nil, http.StatusUnauthorized},
		{"setting", config("secret"), nil, -1},
		{"file", nil, config("secret"), -1},
		{"setting before file", config("guess"), config("secret"), http.StatusUnauthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := openEmpty(t, func(o *native.Options) { o.Auth, o.ConfigDir = tt.auth, dir })
			defer closeNow(t, d)
			if tt.file != nil { // after the driver was made, as by docker login
				if err := os.WriteFile(filepath.Join(dir, "config.json"), tt.file, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			image.WantStatus(t, "pull", ensure(t, d, "", ref), tt.want)
		})
	}
}

func TestPrivateImageIsOnlyForAppsThatCouldPullIt(t *testing.T) {
	address, count := counted(t)
	ref := address + "/tine-test/private:1"
	made := push(t, ref, "private", reader)
	state, dir, auth := t.TempDir(), t.TempDir(), apps(t, address)
	open := func(t *testing.T, change func(*native.Options)) *native.Driver {
		return openEmpty(t, func(o *native.Options) {
			o.Dir, o.StateDir, o.AppAuthDir = dir, state, auth
			if change != nil {
				change(o)
			}
		})
	}
	d := open(t, nil)
	image.WantStatus(t, "stranger, before the pull", ensure(t, d, "stranger", ref), http.StatusUnauthorized)
	image.WantStatus(t, "owner", ensure(t, d, "owner", ref), -1)
	pulled := count.blobs.Load()

	id, err := made.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	target, err := made.Digest()
	if err != nil {
		t.Fatal(err)
	}
	digest := address + "/tine-test/private@" + target.String()
	alias, sameRepo := address+"/tine-test/alias:1", address+"/tine-test/private:alias"
	more, err := pack(made, alias, sameRepo) // the same image under further names
	if err != nil {
		t.Fatal(err)
	}
	if err := d.ImportImages(t.Context(), bytes.NewReader(more)); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, d *native.Driver) {
		t.Helper()
		for name, status := range map[string]int{
			ref: http.StatusUnauthorized, sameRepo: http.StatusUnauthorized, alias: http.StatusUnauthorized, digest: http.StatusUnauthorized,
			id.String(): http.StatusNotFound, id.Hex: http.StatusNotFound, id.Hex[:12]: http.StatusNotFound,
			target.String(): http.StatusNotFound, address + "/tine-test/alias@" + target.String(): http.StatusNotFound,
		} {
			image.WantStatus(t, "stranger, "+name, ensure(t, d, "stranger", name), status)
			image.WantStatus(t, "no app, "+name, ensure(t, d, "", name), status)
		}
		image.WantStatus(t, "wrong password", ensure(t, d, "guesser", ref), http.StatusUnauthorized)
		err := ensure(t, d, "broken", ref)
		image.WantStatus(t, "broken file", err, 0)
		if !strings.Contains(fmt.Sprint(err), "broken.json") {
			t.Errorf("the file is not named: %v", err)
		}
		image.WantStatus(t, "path", ensure(t, d, "../owner", ref), 0)
	}
	check(t, d)
	for range 3 {
		image.WantStatus(t, "owner, again", ensure(t, d, "owner", ref), -1)
		image.WantStatus(t, "owner, by digest", ensure(t, d, "owner", digest), -1)
		image.WantStatus(t, "owner, by identifier", ensure(t, d, "owner", id.String()), -1)
	}
	before := count.manifests.Load()
	for range 3 {
		image.WantStatus(t, "friend", ensure(t, d, "friend", ref), -1)
	}
	if asked := count.manifests.Load() - before; asked != 1 {
		t.Errorf("the registry was asked %d times whether the friend may use the image", asked)
	}
	closeNow(t, d)

	t.Run("after a restart", func(t *testing.T) {
		d := open(t, nil)
		defer closeNow(t, d)
		check(t, d)
		image.WantStatus(t, "owner, by identifier", ensure(t, d, "owner", id.String()), http.StatusNotFound)
		image.WantStatus(t, "owner", ensure(t, d, "owner", ref), -1)
	})
	t.Run("a crash before the image was recorded", func(t *testing.T) {
		if err := os.Remove(filepath.Join(state, "private-images")); err != nil {
			t.Fatal(err)
		}
		d := open(t, nil)
		image.WantStatus(t, "stranger, no record", ensure(t, d, "stranger", ref), -1)
		image.WantStatus(t, "a pull that failed", ensure(t, d, "owner", address+"/tine-test/private:absent"), http.StatusNotFound)
		image.WantStatus(t, "stranger", ensure(t, d, "stranger", ref), http.StatusUnauthorized)
		closeNow(t, d)
		d = open(t, nil)
		defer closeNow(t, d)
		image.WantStatus(t, "stranger, after a restart", ensure(t, d, "stranger", ref), http.StatusUnauthorized)
		image.WantStatus(t, "stranger, by identifier", ensure(t, d, "stranger", id.String()), http.StatusNotFound)
	})
	t.Run("damaged record", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(state, "private-images"), []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		d := open(t, func(o *native.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		defer closeNow(t, d)
		if !strings.Contains(log.String(), "private-images") {
			t.Errorf("the log does not say so: %s", &log)
		}
		image.WantStatus(t, "stranger", ensure(t, d, "stranger", ref), http.StatusUnauthorized)
		image.WantStatus(t, "owner", ensure(t, d, "owner", ref), -1)
	})
	t.Run("credentials of the node", func(t *testing.T) {
		d := open(t, func(o *native.Options) {
			o.Auth = fmt.Appendf(nil, `{"auths":{%q:{"username":"reader","password":"secret"}}}`, address)
		})
		defer closeNow(t, d)
		image.WantStatus(t, "stranger", ensure(t, d, "stranger", ref), -1)
		image.WantStatus(t, "wrong password of its own", ensure(t, d, "guesser", ref), http.StatusUnauthorized)
	})
	if count.blobs.Load() != pulled {
		t.Error("it was pulled again")
	}
}

func TestWithoutRegistryOnlyImagesOfTheNodeAreGivenOut(t *testing.T) {
	var offline, questions atomic.Int64
	address := image.FrontRegistry(t, image.PrivateRegistry(t), func(http.ResponseWriter, *http.Request) bool {
		if offline.Load() != 0 {
			questions.Add(1)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	ref := address + "/tine-test/private:1"
	push(t, ref, "offline", reader)
	node := fmt.Appendf(nil, `{"auths":{%q:{"username":"reader","password":"secret"}}}`, address)
	for _, tt := range []struct {
		name string
		auth []byte // of the node; nil: the app's own
		ttl  time.Duration
		want int // status of the refusal while the registry cannot be reached
	}{
		{"node", node, -1, -1},
		{"app", nil, -1, 0},
		{"app, remembered", nil, time.Hour, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			offline.Store(0)
			questions.Store(0)
			d := openEmpty(t, func(o *native.Options) {
				if o.Auth, o.AccessTTL = tt.auth, tt.ttl; tt.auth == nil {
					o.AppAuthDir = apps(t, address)
				}
			})
			defer closeNow(t, d)
			image.WantStatus(t, "pull", ensure(t, d, "owner", ref), -1)
			offline.Store(1)
			image.WantStatus(t, "offline", ensure(t, d, "owner", ref), tt.want)
			if tt.want < 0 && questions.Load() != 0 {
				t.Error("the registry was asked")
			}
		})
	}
}

func TestNothingPrivateIsPulledThatCannotBeRecorded(t *testing.T) {
	address, count := counted(t)
	ref := address + "/tine-test/private:1"
	push(t, ref, "not recorded", reader)
	state := t.TempDir()
	d := openEmpty(t, func(o *native.Options) { o.AppAuthDir, o.StateDir = apps(t, address), state })
	defer closeNow(t, d)
	if err := os.MkdirAll(filepath.Join(state, "private-images.new"), 0o700); err != nil { // where the new record should be
		t.Fatal(err)
	}
	before := count.blobs.Load()
	image.WantStatus(t, "owner", ensure(t, d, "owner", ref), 0)
	if count.blobs.Load() != before {
		t.Error("it was pulled")
	}
}
