package docker_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/test/image"
)

// saved writes an image that has one name to a file, and takes the name away.
func saved(t *testing.T) (ref, file string) {
	t.Helper()
	local := image.TestFn(t)
	engine := engineClient(t)
	ref = "tine-test/preloaded:" + strings.ToLower(t.Name())
	if _, err := engine.ImageTag(t.Context(), client.ImageTagOptions{Source: local, Target: ref}); err != nil {
		t.Fatal(err)
	}
	defer image.Untag(t, ref)
	archive, err := engine.ImageSave(t.Context(), []string{ref})
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	file = filepath.Join(t.TempDir(), "images.tar")
	to, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, archive); err != nil {
		t.Fatal(err)
	}
	return ref, file
}

func TestImagesOfAnArchiveAreThereFromTheStart(t *testing.T) {
	ref, file := saved(t)
	var asked []string
	d := open(t, docker.Options{LoadFile: file, Observe: func(api string, _ time.Duration, err error) {
		if err == nil {
			asked = append(asked, api)
		}
	}})
	defer closeNow(t, d)
	t.Cleanup(func() { image.Untag(t, ref) })
	if _, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: ref}); err != nil {
		t.Error(err)
	}
	if got := strings.Join(asked, " "); !strings.Contains(got, "docker_load_images") || strings.Contains(got, "docker_pull_image") {
		t.Errorf("the engine was asked for %s", got)
	}
}

func TestArchiveThatCannotBeLoadedEndsTheStart(t *testing.T) {
	image.NeedEngine(t)
	dir := t.TempDir()
	empty, garbage := filepath.Join(dir, "empty"), filepath.Join(dir, "garbage")
	for name, text := range map[string]string{empty: "", garbage: strings.Repeat("garbage", 1000)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{filepath.Join(dir, "absent"), empty, garbage} {
		d, err := docker.New(t.Context(), docker.Options{LoadFile: name})
		if err == nil {
			t.Errorf("%s: no error", name)
			_ = d.Close(context.WithoutCancel(t.Context()))
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name the file: %v", err)
		}
	}
}
