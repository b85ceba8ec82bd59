package docker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/test/image"
)

// twoImages are local images that differ.
func twoImages(t *testing.T) (first, second string) {
	t.Helper()
	first, second = image.TestFn(t), "tine-test/moved:2"
	files := map[string][]byte{"Dockerfile": []byte("FROM scratch\nCOPY a /a\n"), "a": []byte("second")}
	if err := image.Build(t.Context(), second, files); err != nil {
		t.Fatal(err)
	}
	return first, second
}

func imageID(t *testing.T, name string) string {
	t.Helper()
	info, err := engineClient(t).ImageInspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return info.ID
}

// refresh asks the registry what a name means by now.
func refresh(t *testing.T, d *docker.Driver, name string) driver.Image {
	t.Helper()
	got, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: name, Refresh: true})
	if err != nil {
		t.Errorf("refresh of %s: %v", name, err)
	}
	return got
}

func TestMovedTagIsNoticedByARefreshAlone(t *testing.T) {
	first, second := twoImages(t)
	behind := image.Registry(t)
	var offline atomic.Bool
	address := image.FrontRegistry(t, behind, func(http.ResponseWriter, *http.Request) bool {
		if offline.Load() {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	ref := address + "/tine-test/moves:1"
	image.Push(t, first, ref, registry.AuthConfig{})
	var log bytes.Buffer
	d := openGuarded(t, docker.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer closeNow(t, d.Driver)
	ensure := func() driver.Image {
		t.Helper()
		got, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: ref})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	old := ensure()
	if old.ID != imageID(t, first) || !strings.HasPrefix(old.Digest, "sha256:") {
		t.Fatalf("pulled %+v", old)
	}
	t.Cleanup(func() { image.Untag(t, strings.TrimSuffix(ref, ":1")+"@"+old.Digest) }) // the tag leaves it behind
	if got := refresh(t, d.Driver, ref); got != old {
		t.Errorf("a tag that did not move: %+v, want %+v", got, old)
	}
	if d.pulls.Load() != 1 {
		t.Errorf("%d pulls of a tag that did not move", d.pulls.Load())
	}

	// Somebody pushes another image from elsewhere: the engine has the old one.
	image.Push(t, second, ref, registry.AuthConfig{})
	engine := engineClient(t)
	if _, err := engine.ImageTag(t.Context(), client.ImageTagOptions{Source: first, Target: ref}); err != nil {
		t.Fatal(err)
	}
	if got := ensure(); got.ID != old.ID {
		t.Errorf("without a refresh: %+v", got)
	}

	offline.Store(true)
	for range 3 {
		if got := refresh(t, d.Driver, ref); got.ID != old.ID {
			t.Errorf("offline: %+v", got)
		}
	}
	if lines := strings.Count(log.String(), "cannot find out"); lines != 1 {
		t.Errorf("%d lines in the log for one outage: %s", lines, &log)
	}
	offline.Store(false)

	moved := refresh(t, d.Driver, ref)
	if moved.ID != imageID(t, second) || moved.Digest == old.Digest || d.pulls.Load() != 2 {
		t.Errorf("after the tag moved: %+v, %d pulls", moved, d.pulls.Load())
	}
	if got := ensure(); got != moved {
		t.Errorf("after the refresh: %+v, want %+v", got, moved)
	}
	questions := d.questions.Load()
	byDigest := strings.TrimSuffix(ref, ":1") + "@" + moved.Digest
	for _, fixed := range []string{byDigest, moved.ID, "tine-test/moved:2"} { // the last one was never pulled
		if got := refresh(t, d.Driver, fixed); got.ID != moved.ID {
			t.Errorf("%s: %+v", fixed, got)
		}
	}
	if d.questions.Load() != questions {
		t.Error("the registry was asked for names that cannot move")
	}
}

// putManifest puts a manifest into a registry and returns its digest.
func putManifest(t *testing.T, address, repo, tag, mediaType string, text []byte) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+address+"/v2/"+repo+"/manifests/"+tag, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", mediaType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	if said, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s", response.Status, said)
	}
	return response.Header.Get("Docker-Content-Digest")
}

func TestImageOfAnIndexThatDidNotChangeIsNotPulledAgain(t *testing.T) {
	local := image.TestFn(t)
	address := image.Registry(t)
	const repo, manifestType = "tine-test/index", "application/vnd.docker.distribution.manifest.v2+json"
	image.Push(t, local, address+"/"+repo+":one", registry.AuthConfig{})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v2/"+repo+"/manifests/one", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", manifestType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	manifest, _ := io.ReadAll(response.Body)
	response.Body.Close()
	sum := sha256.Sum256(manifest)
	type platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	entry := map[string]any{
		"mediaType": manifestType, "size": len(manifest), "digest": "sha256:" + hex.EncodeToString(sum[:]),
		"platform": platform{runtime.GOARCH, runtime.GOOS},
	}
	index := func(note string) []byte {
		text, err := json.Marshal(map[string]any{
			"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
			"manifests": []any{entry}, "note": note,
		})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const indexType = "application/vnd.docker.distribution.manifest.list.v2+json"
	digest := putManifest(t, address, repo, "many", indexType, index("first"))
	ref := address + "/" + repo + ":many"
	t.Cleanup(func() { image.Untag(t, ref) })
	d := openGuarded(t, docker.Options{})
	defer closeNow(t, d.Driver)
	image.WantStatus(t, "pull", d.ensure(t, "app", ref), -1)
	for range 2 {
		if got := refresh(t, d.Driver, ref); got.ID != imageID(t, local) || got.Digest != digest {
			t.Errorf("got %+v, want the digest %s of the index", got, digest)
		}
	}
	if d.pulls.Load() != 1 {
		t.Errorf("%d pulls", d.pulls.Load())
	}
	// Another index with the same image for this machine.
	putManifest(t, address, repo, "many", indexType, index("second"))
	for range 2 {
		if got := refresh(t, d.Driver, ref); got.ID != imageID(t, local) {
			t.Errorf("got %+v", got)
		}
	}
	if d.pulls.Load() != 2 {
		t.Errorf("%d pulls, want one more for the new index", d.pulls.Load())
	}
}
