package docker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/test/image"
)

// The engine has images of other tests, so the cleaner is only shown those of
// this one.
func TestImagesAreRemovedFromTheEngine(t *testing.T) {
	image.NeedEngine(t)
	engine := engineClient(t)
	prefix := uniqueName() + "/"
	const size = 100_000
	for n := range 4 {
		ref := fmt.Sprintf("%s%d:1", prefix, n)
		content := []byte(strings.Repeat("a", size-20) + ref) // no two images share a layer
		if err := image.Build(t.Context(), ref, map[string][]byte{"Dockerfile": []byte("FROM scratch\nCOPY a /a\nENTRYPOINT [\"/a\"]\n"), "a": content}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { image.Untag(t, ref) })
	}
	another := prefix + "another:1"
	if _, err := engine.ImageTag(t.Context(), client.ImageTagOptions{Source: prefix + "0:1", Target: another}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Untag(t, another) })
	// Nobody else's container keeps the second image.
	made, err := engine.ContainerCreate(t.Context(), client.ContainerCreateOptions{Image: prefix + "1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forceRemove(t, engine, made.ID) })

	opts := docker.Options{MaxImageBytes: 1, ExemptImages: []string{prefix + "2:1"}}
	docker.CleanOnly(&opts, func(names []string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, prefix) })
	})
	exists := func(name string) bool {
		_, err := engine.ImageInspect(t.Context(), name)
		if err != nil && !errdefs.IsNotFound(err) {
			t.Fatal(err)
		}
		return err == nil
	}
	d := open(t, opts)
	defer closeNow(t, d)
	for deadline := time.Now().Add(20 * time.Second); exists(prefix+"0:1") || exists(another) || exists(prefix+"3:1"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("images that nobody uses are left")
		}
	}
	for _, name := range []string{"1:1", "2:1"} {
		if !exists(prefix + name) {
			t.Errorf("image %s is gone", name)
		}
	}
	if got := d.ImageStats(); got.Busy != 1 || got.MaxBytes != 1 {
		t.Errorf("%+v", got)
	}
	if _, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: prefix + "1:1"}); err != nil {
		t.Error(err)
	}
}
