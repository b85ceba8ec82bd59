package docker_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
)

// The tests of this file are about engines that are not there: they play the
// recorded answers of one, in the form that each version of the API has.

// live is the life of an image and of two containers: one prints and ends, and
// one is frozen and stopped.
func live(t *testing.T, opts docker.Options, ref, sockets string) {
	t.Helper()
	opts.LabelTag = "tine-test-life"
	d, err := docker.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer closeNow(t, d)
	docker.FreezeByEngine(d, t.TempDir())
	if err := d.Sweep(t.Context()); err != nil {
		t.Errorf("sweep: %v", err)
	}
	if found, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: ref}); err != nil || !strings.HasPrefix(found.ID, "sha256:") {
		t.Errorf("image %+v, %v", found, err)
	}
	var stdout, stderr bytes.Buffer
	spec := &driver.Spec{
		ID: "tine-test-life-print", Image: ref, Command: []string{"print", "out", "err"}, Env: []string{"A=b"}, Hostname: "h",
		Labels: map[string]string{"a": "b"}, SocketDir: sockets, Stdout: &stdout, Stderr: &stderr,
		Limits: driver.Limits{
			MemoryBytes: 64 << 20, MilliCPU: 500, Processes: 50, OpenFiles: 100, LockedMemoryBytes: 65536,
			PendingSignals: 100, MessageQueueBytes: 819200, DiskMiB: 100, TmpMiB: 1, TmpInodes: 10,
		},
		Security: driver.Security{Unprivileged: true, ReadOnlyRoot: true, Init: true, NoNetwork: true},
	}
	create := func(spec *driver.Spec) driver.Container {
		c, err := d.Create(t.Context(), spec)
		if err != nil {
			t.Fatalf("create: %v", err)
		}
		if _, err := d.Create(t.Context(), spec); !errdefs.IsConflict(err) {
			t.Errorf("create again: %v", err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatalf("start: %v", err)
		}
		return c
	}
	remove := func(c driver.Container) {
		if err := c.Remove(t.Context()); err != nil {
			t.Errorf("remove: %v", err)
		}
		if err := c.Start(t.Context()); !errors.Is(err, driver.ErrGone) {
			t.Errorf("start after the removal: %v", err)
		}
	}
	c := create(spec)
	if exit, err := c.Wait(t.Context()); err != nil || exit.Code != 0 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if stdout.String() != "out\n" || stderr.String() != "err\n" {
		t.Errorf("printed %q and %q", &stdout, &stderr)
	}
	remove(c)

	c = create(&driver.Spec{ID: "tine-test-life-sleep", Image: ref, Command: []string{"sleep"}, Stdout: io.Discard, Security: driver.Security{Init: true, NoNetwork: true}})
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"freeze", c.Freeze}, {"thaw", c.Thaw}, {"stop", c.Stop}} {
		if err := step.do(t.Context()); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}
	if exit, err := c.Wait(t.Context()); err != nil || exit.Code != 143 {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if err := c.Freeze(t.Context()); err == nil {
		t.Error("froze what has ended")
	}
	remove(c)
	if _, err := d.Create(t.Context(), &driver.Spec{ID: "tine-test-life-absent", Image: "registry.example/absent:1"}); !errors.Is(err, driver.ErrImageNotFound) {
		t.Errorf("without an image: %v", err)
	}
}

func TestLifeOnEnginesOfAllVersions(t *testing.T) {
	for own := range versionsUpTo("1.60") {
		t.Run(own, func(t *testing.T) {
			t.Parallel()
			version := own
			if versions.LessThan(client.MaxAPIVersion, own) {
				version = client.MaxAPIVersion
			}
			live(t, docker.Options{Host: listenUnix(t, newPlayer(t, own, version))}, "registry.example/tine-test/life:1", "/sockets")
		})
	}
}

func TestEnginesWithoutACommonVersionAreRefused(t *testing.T) {
	const tooNew = `{"message":"client version is too old. Minimum supported API version is 1.98, please upgrade your client to a newer version"}`
	for own, want := range map[string][]string{
		"1.24": {"1.24", "1.41", client.MaxAPIVersion, "DOCKER_HOST", "update"},
		"1.40": {"1.40", "1.41", client.MaxAPIVersion, "DOCKER_HOST", "update"},
		"1.99": {"1.99", "1.98", client.MaxAPIVersion, "DOCKER_HOST", "update this server"},
	} {
		host := listenUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", own)
			if r.URL.Path != "/_ping" {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, tooNew)
			}
		}))
		d, err := docker.New(t.Context(), docker.Options{Host: host})
		if err == nil {
			closeNow(t, d)
			t.Errorf("%s is accepted", own)
			continue
		}
		for _, text := range append(want, host) {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q does not say %s", own, err, text)
			}
		}
	}
}

func TestErrorsOfEnginesAreUnderstood(t *testing.T) {
	for _, tt := range []struct {
		status     int
		kind, body string
		want       error // nil: the engine's own
		text       string
	}{
		{400, "application/json", `{"message":"OCI runtime create failed"}`, nil, "OCI runtime create failed"},
		{404, "application/json", `{"message":"No such container: c"}`, driver.ErrGone, "No such container"},
		{409, "application/json", `{"message":"the container is marked for removal"}`, nil, "marked for removal"},
		{500, "application/json", `{"message":"driver failed"}` + "\n", nil, "driver failed"},
		{500, "application/json", `{}`, nil, "500"},
		{500, "text/plain; charset=utf-8", "page not found\n", nil, "page not found"},
		{500, "", "", nil, "500"},
		{503, "application/json", `{"message":"the engine shuts down"}`, driver.ErrUnavailable, "shuts down"},
	} {
		host := listenUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			switch path := withoutVersion(r.URL.Path); path {
			case "/_ping", "/info":
				_, _ = io.WriteString(w, `{}`)
			case "/containers/create":
				_, _ = io.WriteString(w, `{"Id":"c"}`)
			case "/containers/c/start", "/containers/c/json":
				w.Header().Set("Content-Type", tt.kind)
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			default:
				w.WriteHeader(http.StatusNoContent)
			}
		}))
		d, err := docker.New(t.Context(), docker.Options{Host: host})
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Create(t.Context(), &driver.Spec{ID: "c", Image: "i"})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%d %s: %v", tt.status, tt.body, err)
		}
		for _, kind := range []error{driver.ErrGone, driver.ErrUnavailable} {
			if got := errors.Is(err, kind); got != errors.Is(tt.want, kind) {
				t.Errorf("%d %s: %v, which is %v: %t", tt.status, tt.body, err, kind, got)
			}
		}
		closeNow(t, d)
	}
}
