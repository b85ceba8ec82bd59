package docker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/test/image"
)

// engineClient is for what drivers do not do.
func engineClient(t *testing.T) *client.Client {
	t.Helper()
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	return engine
}

func TestImageIsPulledFromARegistryOnce(t *testing.T) {
	local := image.TestFn(t)
	address := image.Registry(t)
	engine := engineClient(t)
	ref := address + "/tine-test/pulled:1"
	image.Push(t, local, ref, registry.AuthConfig{})
	d := open(t, docker.Options{})
	defer closeNow(t, d)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: ref}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := engine.ImageInspect(t.Context(), ref); err != nil {
		t.Errorf("after the pull: %v", err)
	}

	_, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: address + "/tine-test/pulled:absent"})
	if refused, ok := errors.AsType[*driver.PullError](err); !ok || refused.Status != http.StatusNotFound {
		t.Errorf("missing tag: %v", err)
	} else if strings.Contains(refused.Message, "Error response") || !strings.Contains(refused.Message, "manifest") {
		t.Errorf("missing tag: message %q", refused.Message)
	}
}

func TestPullErrors(t *testing.T) {
	image.NeedEngine(t)
	registry := image.FaultyRegistry(t)
	d := open(t, docker.Options{PullTimeout: 2 * time.Second})
	defer closeNow(t, d)
	tests := map[string]struct {
		image  string
		status int
	}{
		"refused":       {image: registry + "/private/a:1", status: 401},
		"garbage":       {image: registry + "/garbage/a:1", status: 0},
		"dead registry": {image: "127.0.0.1:1/a/b:1", status: 0},
		"invalid name":  {image: "UPPER/CASE", status: 400},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: tt.image})
			refused, ok := errors.AsType[*driver.PullError](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if refused.Status != tt.status || refused.Image != tt.image {
				t.Errorf("got status %d: %v", refused.Status, err)
			}
		})
	}
	t.Run("hanging registry", func(t *testing.T) {
		_, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: registry + "/hangs/a:1"})
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("caller who leaves", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := d.EnsureImage(ctx, driver.ImageRequest{Name: registry + "/hangs/b:1"}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

func TestImageWithVolumesIsRefusedUnlessEnabled(t *testing.T) {
	image.NeedEngine(t)
	const ref = "tine-test/volume:1"
	if err := image.Build(t.Context(), ref, map[string][]byte{"Dockerfile": []byte("FROM scratch\nCOPY a /a\nVOLUME /data\n"), "a": []byte("a")}); err != nil {
		t.Fatal(err)
	}
	strict, lenient := open(t, docker.Options{}), open(t, docker.Options{EnableVolumes: true})
	defer closeNow(t, strict)
	defer closeNow(t, lenient)
	if _, err := strict.EnsureImage(t.Context(), driver.ImageRequest{Name: ref}); !errors.Is(err, driver.ErrImageVolume) {
		t.Errorf("got %v", err)
	}
	if _, err := lenient.EnsureImage(t.Context(), driver.ImageRequest{Name: ref}); err != nil {
		t.Error(err)
	}
}

func closeNow(t testing.TB, d *docker.Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

var counter atomic.Int64 // makes container names of one process unique

func uniqueName() string {
	return fmt.Sprintf("tine-test-%d-%d-%d", os.Getpid(), time.Now().UnixNano(), counter.Add(1))
}
