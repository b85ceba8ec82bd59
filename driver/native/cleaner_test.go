//go:build linux

package native_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native"
)

func TestLoadedImagesAreNotCleaned(t *testing.T) {
	file := filepath.Join(t.TempDir(), "images.tar")
	if err := os.WriteFile(file, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	looked := make(chan struct{}, 100)
	d := open(t, func(o *native.Options) {
		o.LoadFile, o.MaxImageBytes = file, 1
		o.Logger = slog.New(slog.NewTextHandler(lines(func(line string) {
			if strings.Contains(line, "none can be removed") {
				looked <- struct{}{}
			}
		}), nil))
	})
	<-looked
	if got := d.ImageStats(); got.Busy != 1 || got.Idle != 0 || got.BusyBytes < 1<<20 || got.IdleBytes > 1<<10 || got.MaxBytes != 1 {
		t.Errorf("%+v", got)
	}
	if _, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: testImage}); err != nil {
		t.Error(err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// lines is told what is written.
type lines func(string)

func (l lines) Write(p []byte) (int, error) {
	l(string(p))
	return len(p), nil
}

func TestWhatCannotBeExemptOrLoadedEndsTheStart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("sandboxes need root")
	}
	for want, change := range map[string]func(*native.Options){
		"FN_IMAGE_CLEAN_EXEMPT_TAGS is no image": func(o *native.Options) { o.ExemptImages = []string{"a:1", "A B"} },
		"FN_DOCKER_LOAD_FILE":                    func(o *native.Options) { o.LoadFile = "/nonexistent.tar" },
	} {
		opts := native.Options{Dir: t.TempDir(), Init: "/bin/true"}
		change(&opts)
		if _, err := native.New(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
