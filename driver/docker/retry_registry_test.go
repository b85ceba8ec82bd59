package docker_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/registry"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/test/image"
)

func TestPullIsTriedAgainUnlessItIsRefused(t *testing.T) {
	local := image.TestFn(t)
	behind := image.Registry(t)
	var status, failures, asked atomic.Int64 // how the next so many requests for a manifest end, and how many there were
	address := image.FrontRegistry(t, behind, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") || r.Method == http.MethodPut {
			return false
		}
		asked.Add(1)
		left := failures.Load()
		if r.Method == http.MethodGet || status.Load() == 0 { // engines ask by HEAD before, and forgive a status
			left = failures.Add(-1) + 1
		}
		if left <= 0 {
			return false
		}
		if status.Load() == 0 {
			panic(http.ErrAbortHandler) // the connection ends
		}
		w.WriteHeader(int(status.Load()))
		return true
	})
	ref := address + "/tine-test/flaky:1"
	image.Push(t, local, ref, registry.AuthConfig{})
	for _, tt := range []struct {
		name             string
		status, failures int64
		retries          int
		wantTried        int64 // again
		wantFailure      bool
	}{
		{"503 once", 503, 1, 2, 1, false},
		{"429 twice", 429, 2, 2, 2, false},
		{"cut", 0, 1, 2, 1, false},
		{"503 too often", 503, 9, 2, 2, true},
		{"no retries", 503, 1, 0, 0, true},
		{"401", 401, 9, 2, 0, true},
		{"403", 403, 9, 2, 0, true},
		{"404", 404, 9, 2, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image.Untag(t, ref)
			var tried atomic.Int64
			d := open(t, docker.Options{PullRetries: tt.retries, Retried: func(api string) {
				if api == "docker_pull_image" {
					tried.Add(1)
				}
			}})
			defer closeNow(t, d)
			status.Store(tt.status)
			failures.Store(tt.failures)
			asked.Store(0)
			began := time.Now()
			_, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: ref})
			failures.Store(0)
			if (err != nil) != tt.wantFailure {
				t.Errorf("got %v", err)
			}
			if refused, ok := errors.AsType[*driver.PullError](err); err != nil && !ok {
				t.Errorf("got %v", err)
			} else if ok && tt.status < 500 && tt.wantFailure && refused.Status != int(tt.status) {
				t.Errorf("status %d: %v", refused.Status, err)
			}
			if tried.Load() != tt.wantTried {
				t.Errorf("tried again %d times, %d requests in %v", tried.Load(), asked.Load(), time.Since(began))
			}
		})
	}
}

func TestRetriesEndWithThePullsDeadline(t *testing.T) {
	image.NeedEngine(t)
	address := image.ServeRegistry(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	d := open(t, docker.Options{PullRetries: 1000, PullTimeout: time.Second})
	defer closeNow(t, d)
	began := time.Now()
	_, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: address + "/a/b:1"})
	if err == nil || time.Since(began) > 3*time.Second {
		t.Errorf("got %v after %v", err, time.Since(began))
	}
}
