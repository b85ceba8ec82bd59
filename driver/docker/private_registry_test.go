package docker_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/test/image"
)

func TestTokenOfACallPullsTheImage(t *testing.T) {
	local := image.TestFn(t)
	const token = "tok-3n-of-a-call"
	address := image.TokenRegistry(t, image.Registry(t), token)
	ref := address + "/tine-test/token:1"
	image.Push(t, local, ref, registry.AuthConfig{RegistryToken: token})
	var log bytes.Buffer
	d := open(t, docker.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), StateDir: t.TempDir(), AccessTTL: -1})
	defer closeNow(t, d)
	ensure := func(want driver.ImageRequest) error {
		want.Name = ref
		_, err := d.EnsureImage(t.Context(), want)
		return err
	}
	if ensure(driver.ImageRequest{Tenant: "a"}) == nil {
		t.Error("pulled without a token")
	}
	image.WantStatus(t, "another token", ensure(driver.ImageRequest{Tenant: "a", Token: "another"}), http.StatusUnauthorized)
	image.WantStatus(t, "the token", ensure(driver.ImageRequest{Tenant: "a", Token: token}), -1)
	image.WantStatus(t, "the token again", ensure(driver.ImageRequest{Tenant: "a", Token: token}), -1)
	image.WantStatus(t, "another token, after the pull", ensure(driver.ImageRequest{Tenant: "a", Token: "another"}), http.StatusUnauthorized)
	if ensure(driver.ImageRequest{Tenant: "a"}) == nil {
		t.Error("given out without a token, after the pull")
	}
	if strings.Contains(log.String(), token) {
		t.Errorf("the token is in the log: %s", &log)
	}
}

// apps are drivers' credentials of apps for one registry, in files.
func apps(t *testing.T, address string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for app, password := range map[string]string{"owner": "secret", "friend": "secret", "guesser": "guess"} {
		text := fmt.Appendf(nil, `{"auths":{%q:{"username":"reader","password":%q}}}`, address, password)
		if err := os.WriteFile(filepath.Join(dir, app+".json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// guarded is a driver with what it asked of the engine's registries.
type guarded struct {
	*docker.Driver
	pulls, questions atomic.Int64
}

func openGuarded(t *testing.T, opts docker.Options) *guarded {
	t.Helper()
	g := &guarded{}
	opts.Observe = func(api string, _ time.Duration, _ error) {
		switch api {
		case "docker_pull_image":
			g.pulls.Add(1)
		case "docker_distribution_inspect":
			g.questions.Add(1)
		}
	}
	g.Driver = open(t, opts)
	return g
}

func (g *guarded) ensure(t *testing.T, app, name string) error {
	t.Helper()
	_, err := g.EnsureImage(t.Context(), driver.ImageRequest{Name: name, Tenant: app})
	return err
}

func TestPrivateImageIsOnlyForAppsThatCouldPullIt(t *testing.T) {
	ref, address := privateImage(t)
	opts := docker.Options{AppAuthDir: apps(t, address), StateDir: filepath.Join(t.TempDir(), "state")}
	d := openGuarded(t, opts)
	image.WantStatus(t, "stranger, before the pull", d.ensure(t, "stranger", ref), http.StatusUnauthorized)
	image.WantStatus(t, "owner", d.ensure(t, "owner", ref), -1)
	pulls := d.pulls.Load()

	engine := engineClient(t)
	info, err := engine.ImageInspect(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	alias := address + "/tine-test/alias:1"
	sameRepo := address + "/tine-test/private:alias"
	for _, name := range []string{alias, sameRepo} {
		if _, err := engine.ImageTag(t.Context(), client.ImageTagOptions{Source: ref, Target: name}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { image.Untag(t, name) })
	}
	digest := ""
	for _, name := range info.RepoDigests {
		if strings.HasPrefix(name, address) {
			digest = name
		}
	}
	check := func(t *testing.T, d *guarded) {
		t.Helper()
		for name, status := range map[string]int{
			ref: http.StatusUnauthorized, sameRepo: http.StatusUnauthorized, alias: http.StatusUnauthorized, digest: http.StatusUnauthorized,
			info.ID: http.StatusNotFound, strings.TrimPrefix(info.ID, "sha256:"): http.StatusNotFound, strings.TrimPrefix(info.ID, "sha256:")[:12]: http.StatusNotFound,
		} {
			image.WantStatus(t, "stranger, "+name, d.ensure(t, "stranger", name), status)
			image.WantStatus(t, "no app, "+name, d.ensure(t, "", name), status)
		}
		image.WantStatus(t, "wrong password", d.ensure(t, "guesser", ref), http.StatusUnauthorized)
		err := d.ensure(t, "broken", ref)
		image.WantStatus(t, "broken file", err, 0)
		if !strings.Contains(fmt.Sprint(err), "broken.json") {
			t.Errorf("the file is not named: %v", err)
		}
		image.WantStatus(t, "path", d.ensure(t, "../owner", ref), 0)
	}
	check(t, d)
	for range 3 {
		image.WantStatus(t, "owner, again", d.ensure(t, "owner", ref), -1)
		image.WantStatus(t, "owner, by digest", d.ensure(t, "owner", digest), -1)
		image.WantStatus(t, "owner, by identifier", d.ensure(t, "owner", info.ID), -1)
	}
	before := d.questions.Load()
	for range 3 {
		image.WantStatus(t, "friend", d.ensure(t, "friend", ref), -1)
	}
	if asked := d.questions.Load() - before; asked != 1 {
		t.Errorf("the registry was asked %d times whether the friend may use the image", asked)
	}
	if d.pulls.Load() != pulls {
		t.Error("it was pulled again")
	}
	closeNow(t, d.Driver)

	t.Run("after a restart", func(t *testing.T) {
		d := openGuarded(t, opts)
		defer closeNow(t, d.Driver)
		check(t, d)
		image.WantStatus(t, "owner, by identifier", d.ensure(t, "owner", info.ID), http.StatusNotFound)
		image.WantStatus(t, "owner", d.ensure(t, "owner", ref), -1)
		if d.pulls.Load() != 0 {
			t.Error("it was pulled again")
		}
	})
	t.Run("a crash before the image was recorded", func(t *testing.T) {
		record := filepath.Join(opts.StateDir, "private-images")
		if err := os.Remove(record); err != nil {
			t.Fatal(err)
		}
		d := openGuarded(t, opts)
		image.WantStatus(t, "stranger, no record", d.ensure(t, "stranger", ref), -1)
		image.WantStatus(t, "a pull that failed", d.ensure(t, "owner", address+"/tine-test/private:absent"), http.StatusNotFound)
		closeNow(t, d.Driver)
		again := openGuarded(t, opts)
		defer closeNow(t, again.Driver)
		check(t, again)
	})
	t.Run("damaged record", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(opts.StateDir, "private-images"), []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		damaged := opts
		damaged.Logger = slog.New(slog.NewTextHandler(&log, nil))
		d := openGuarded(t, damaged)
		defer closeNow(t, d.Driver)
		if !strings.Contains(log.String(), "private-images") {
			t.Errorf("the log does not say so: %s", &log)
		}
		check(t, d)
		image.WantStatus(t, "owner", d.ensure(t, "owner", ref), -1)
	})
	t.Run("credentials of the node", func(t *testing.T) {
		node := opts
		node.Auth = fmt.Appendf(nil, `{"auths":{%q:{"username":"reader","password":"secret"}}}`, address)
		d := openGuarded(t, node)
		defer closeNow(t, d.Driver)
		image.WantStatus(t, "stranger", d.ensure(t, "stranger", ref), -1)
		image.WantStatus(t, "wrong password of its own", d.ensure(t, "guesser", ref), http.StatusUnauthorized)
		if d.pulls.Load() != 0 {
			t.Error("it was pulled again")
		}
	})
}

func TestWithoutRegistryOnlyImagesOfTheNodeAreGivenOut(t *testing.T) {
	ref, behind := privateImage(t)
	var offline atomic.Bool
	address := image.FrontRegistry(t, behind, func(http.ResponseWriter, *http.Request) bool {
		if offline.Load() {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	ref = address + strings.TrimPrefix(ref, behind)
	t.Cleanup(func() { image.Untag(t, ref) })
	for _, tt := range []struct {
		name string
		opts docker.Options
		ttl  time.Duration
		want int // status of the refusal while the registry cannot be reached
	}{
		{"node", docker.Options{Auth: fmt.Appendf(nil, `{"auths":{%q:{"username":"reader","password":"secret"}}}`, address)}, -1, -1},
		{"app", docker.Options{AppAuthDir: apps(t, address)}, -1, 0},
		{"app, remembered", docker.Options{AppAuthDir: apps(t, address)}, time.Hour, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			offline.Store(false)
			image.Untag(t, ref)
			tt.opts.StateDir, tt.opts.AccessTTL = t.TempDir(), tt.ttl
			d := openGuarded(t, tt.opts)
			defer closeNow(t, d.Driver)
			image.WantStatus(t, "pull", d.ensure(t, "owner", ref), -1)
			offline.Store(true)
			image.WantStatus(t, "offline", d.ensure(t, "owner", ref), tt.want)
			if tt.name == "node" && d.questions.Load() != 0 {
				t.Error("the registry was asked")
			}
		})
	}
}

func TestNothingPrivateIsPulledThatCannotBeRecorded(t *testing.T) {
	ref, address := privateImage(t)
	state := filepath.Join(t.TempDir(), "state")
	d := openGuarded(t, docker.Options{AppAuthDir: apps(t, address), StateDir: state})
	defer closeNow(t, d.Driver)
	if err := os.MkdirAll(filepath.Join(state, "private-images.new"), 0o700); err != nil { // where the new record should be
		t.Fatal(err)
	}
	image.WantStatus(t, "owner", d.ensure(t, "owner", ref), 0)
	if d.pulls.Load() != 0 {
		t.Error("it was pulled")
	}
}
