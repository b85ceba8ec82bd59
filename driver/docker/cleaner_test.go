package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/driver"
)

// imageEngine keeps images by the rules of Docker's, as far as they matter here.
type imageEngine struct {
	mu         sync.Mutex // guards the rest
	version    string     // of its API
	images     map[string]*engineImage
	containers []string // their images
	total      int64    // as it counts layers; 0: it fails to
	refuse     map[string]bool
	hang       string // how the path of requests without an answer begins
	removals   []time.Time
	untagged   []string
	onInspect  func()
}

type engineImage struct {
	Created      int64
	Size, Shared int64
	Tags         []string
}

// open makes a driver on the engine.
func (e *imageEngine) open(t *testing.T, opts Options) *Driver {
	t.Helper()
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	opts.Host = "tcp://" + server.Listener.Addr().String()
	d, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.WithoutCancel(t.Context())) })
	return d
}

func (e *imageEngine) find(name string) (id string, found bool) {
	if _, ok := e.images[name]; ok {
		return name, true
	}
	for id, image := range e.images {
		if shortID := strings.TrimSuffix(name, ":latest"); strings.HasPrefix(id, "sha256:"+shortID) {
			return id, true
		}
		if slices.Contains(image.Tags, name) {
			return id, true
		}
	}
	return "", false
}

func (e *imageEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hang != "" && strings.HasPrefix(path, e.hang) {
		e.mu.Unlock()
		<-r.Context().Done()
		e.mu.Lock()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	name := strings.TrimPrefix(path, "images/")
	for _, suffix := range []string{"/json", "/tag"} {
		name = strings.TrimSuffix(name, suffix)
	}
	if !strings.Contains(name, ":") {
		name += ":latest"
	}
	id, found := e.find(name)
	refuse := func(status int, message string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"message":%q}`, message)
	}
	summaries := func(shared bool) (list []any) {
		for _, id := range slices.Sorted(maps.Keys(e.images)) {
			image := e.images[id]
			s := map[string]any{"Id": id, "Size": image.Size, "SharedSize": -1, "Containers": -1, "Created": image.Created, "RepoTags": image.Tags}
			if shared {
				s["SharedSize"] = image.Shared
			}
			list = append(list, s)
		}
		return list
	}
	answer := func(body any) { _ = json.NewEncoder(w).Encode(body) }
	switch {
	case r.URL.Path == "/_ping":
		w.Header().Set("Api-Version", e.version)
	case path == "info":
		answer(map[string]any{"CgroupDriver": "cgroupfs"})
	case path == "containers/json":
		list := []any{}
		for _, image := range e.containers {
			list = append(list, map[string]any{"Id": "c", "ImageID": image})
		}
		answer(list)
	case path == "containers/create":
		answer(map[string]any{"Id": testID})
	case strings.HasPrefix(path, "containers/"):
		w.WriteHeader(http.StatusNoContent)
	case path == "images/json":
		answer(summaries(false))
	case path == "system/df" && e.total == 0:
		refuse(http.StatusInternalServerError, "a disk usage operation is already running")
	case path == "system/df" && e.version >= "1.52" && r.URL.Query().Get("verbose") == "1":
		answer(map[string]any{"ImageUsage": map[string]any{"TotalCount": len(e.images), "TotalSize": e.total, "Items": summaries(true)}})
	case path == "system/df":
		answer(map[string]any{"LayersSize": e.total, "Images": summaries(true)})
	case path == "images/create":
		e.images[imageID(3)] = &engineImage{Size: 10, Tags: []string{"i3:latest"}}
		e.total += 10
		answer(map[string]any{"status": "done"})
	case !found:
		refuse(http.StatusNotFound, "No such image: "+name)
	case r.Method == http.MethodGet:
		if e.onInspect != nil {
			e.onInspect()
		}
		answer(map[string]any{"Id": id, "RepoTags": e.images[id].Tags})
	case strings.HasSuffix(path, "/tag"):
		e.images[id].Tags = append(e.images[id].Tags, strings.TrimPrefix(r.URL.Query().Get("repo"), "docker.io/")+":"+r.URL.Query().Get("tag"))
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodDelete:
		e.remove(w, name, id, refuse)
	}
}

func (e *imageEngine) remove(w http.ResponseWriter, name, id string, refuse func(int, string)) {
	image := e.images[id]
	switch {
	case name != id && len(image.Tags) > 1:
		image.Tags = slices.DeleteFunc(image.Tags, func(tag string) bool { return tag == name })
		e.untagged = append(e.untagged, name)
	case len(image.Tags) > 1:
		refuse(http.StatusConflict, "image is referenced in multiple repositories")
		return
	case slices.Contains(e.containers, id), e.refuse[id]:
		refuse(http.StatusConflict, "image is being used")
		return
	default:
		e.removals = append(e.removals, time.Now())
		e.total = max(0, e.total-(image.Size-image.Shared))
		delete(e.images, id)
	}
	fmt.Fprint(w, `[]`)
}

func (e *imageEngine) left() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.images))
}

func imageID(n int) string { return fmt.Sprintf("sha256:%d%063d", n, 0) }

func shortID(n int) string { return strings.TrimPrefix(imageID(n), "sha256:")[:20] }

// fill makes images of ten bytes each, the older ones first.
func (e *imageEngine) fill(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := 1; i <= n; i++ {
		e.images[imageID(i)] = &engineImage{Created: int64(i), Size: 10, Tags: []string{fmt.Sprintf("i%d:latest", i)}}
	}
	e.total = int64(10 * n)
}

// idleCleaner makes a driver whose cleaner does nothing by itself.
func idleCleaner(t *testing.T, opts Options) (*imageEngine, *Driver) {
	t.Helper()
	return versionCleaner(t, "1.41", opts)
}

// versionCleaner is the same on an engine with a version of the API.
func versionCleaner(t *testing.T, version string, opts Options) (*imageEngine, *Driver) {
	t.Helper()
	e := &imageEngine{version: version, images: map[string]*engineImage{}, refuse: map[string]bool{}}
	maximum := opts.MaxImageBytes
	opts.MaxImageBytes = 0
	d := e.open(t, opts)
	d.opts.MaxImageBytes = maximum
	var err error
	if d.cleaner, err = newCleaner(d); err != nil {
		t.Fatal(err)
	}
	return e, d
}

func (e *imageEngine) check(t *testing.T, want ...int) {
	t.Helper()
	var ids []string
	for _, n := range want {
		ids = append(ids, imageID(n))
	}
	if diff := cmp.Diff(ids, e.left()); diff != "" {
		t.Errorf("left on the engine (-want +got)\n%s", diff)
	}
}

func TestCleanerKeepsWhatIsInUse(t *testing.T) {
	t.Parallel()
	e, d := idleCleaner(t, Options{MaxImageBytes: 1, ExemptImages: []string{"i2"}})
	e.fill(7)
	e.containers = []string{imageID(1)}
	if _, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: "i3"}); err != nil {
		t.Fatal(err)
	}
	// By the beginning of its identifier, which is no name that is listed.
	if _, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: shortID(5)}); err != nil {
		t.Fatal(err)
	}
	c, err := d.Create(t.Context(), &driver.Spec{ID: "c", Image: "i4"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cleaner.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.check(t, 1, 2, 3, 4, 5)
	if gap := e.removals[1].Sub(e.removals[0]); gap < imageRemovePause-20*time.Millisecond {
		t.Errorf("two removals within %v", gap)
	}
	want := ImageStats{Busy: 4, BusyBytes: 40, MaxBytes: 1}
	if got := d.ImageStats(); got != want {
		t.Errorf("%+v", got)
	}
	if err := c.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.cleaner.used.images[imageKey("i4")].holders != 0 || d.cleaner.used.images[imageKey("i3")].holders != 0 {
		t.Error("an image is held for ever")
	}
}

func TestCleanerStopsWhenTheRestFits(t *testing.T) {
	t.Parallel()
	e, d := idleCleaner(t, Options{MaxImageBytes: 25})
	e.fill(4)
	e.images[imageID(4)].Tags = nil
	if err := d.cleaner.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.check(t, 2, 3)
	e.fill(3) // 30 bytes, of which 8 are counted three times
	for _, image := range e.images {
		image.Shared = 8
	}
	e.total = 14
	if err := d.cleaner.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.check(t, 1, 2, 3)
}

// Layers that images share are told in two forms.
func TestCleanerWithEnginesOfSeveralVersions(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.41", "1.42", "1.44", "1.51", "1.52", "1.53", "1.56"} {
		e, d := versionCleaner(t, version, Options{MaxImageBytes: 20})
		e.fill(3)
		for _, image := range e.images {
			image.Shared = 8
		}
		e.total = 14
		if err := d.cleaner.clean(t.Context()); err != nil {
			t.Errorf("%s: %v", version, err)
		}
		e.check(t, 1, 2, 3)
		if got, want := d.ImageStats(), (ImageStats{Idle: 3, IdleBytes: 14, MaxBytes: 20}); got != want {
			t.Errorf("%s: %+v", version, got)
		}
	}
}

func TestImagesAreSummedUpOnlyIfTheEngineKeepsFailing(t *testing.T) {
	t.Parallel()
	e, d := idleCleaner(t, Options{MaxImageBytes: 25})
	e.fill(3)
	e.total = 0
	for range sumAfter - 1 {
		if err := d.cleaner.clean(t.Context()); err == nil {
			t.Error("no error")
		}
		e.check(t, 1, 2, 3)
	}
	if err := d.cleaner.clean(t.Context()); err != nil {
		t.Error(err)
	}
	e.check(t, 2, 3)
}

func TestRefusedRemovalIsTriedLaterAndCostsNoNames(t *testing.T) {
	t.Parallel()
	e, d := idleCleaner(t, Options{MaxImageBytes: 15})
	e.fill(3)
	e.images[imageID(1)].Tags = []string{"r/a:1", "r/b:1", "i1:latest"}
	e.refuse[imageID(1)] = true
	if err := d.cleaner.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.check(t, 1)
	slices.Sort(e.images[imageID(1)].Tags)
	if diff := cmp.Diff([]string{"i1:latest", "r/a:1", "r/b:1"}, e.images[imageID(1)].Tags); diff != "" {
		t.Errorf("names (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"r/a:1", "r/b:1"}, e.untagged); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	delete(e.refuse, imageID(1))
	d.cleaner.max = 5
	if err := d.cleaner.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.check(t)
}

func TestImageThatIsWantedWhileItIsToGoStays(t *testing.T) {
	t.Parallel()
	e, d := idleCleaner(t, Options{MaxImageBytes: 5})
	e.fill(1)
	e.onInspect = func() { // the cleaner looks at it again
		e.onInspect = nil
		d.cleaner.hold(t.Context(), "i1")
	}
	if err := d.cleaner.clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.check(t, 1)
}

func TestCleanerLeavesAnEngineAloneThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"containers/json", "images/json", "images/sha256"} {
		e, d := idleCleaner(t, Options{MaxImageBytes: 5, CallTimeout: 50 * time.Millisecond})
		e.fill(2)
		e.hang = path
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		began := time.Now()
		err := d.cleaner.clean(ctx)
		if !errors.Is(err, driver.ErrUnavailable) && ctx.Err() == nil || time.Since(began) > 10*time.Second {
			t.Errorf("%s: %v after %v", path, err, time.Since(began))
		}
		cancel()
		e.check(t, 1, 2)
	}
}

func TestCleanerLooksAtTheStartAndAfterEachPull(t *testing.T) {
	t.Parallel()
	e := &imageEngine{version: "1.41", images: map[string]*engineImage{}}
	e.fill(2)
	d := e.open(t, Options{MaxImageBytes: 15})
	await := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !slices.Equal(e.left(), []string{imageID(want)}) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		e.check(t, want)
	}
	await(2)
	if _, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: "i3"}); err != nil {
		t.Fatal(err)
	}
	await(3)
}
