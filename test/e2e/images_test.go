package e2e

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	storedimage "github.com/tinefn/tine/internal/image"
	"github.com/tinefn/tine/test/image"
)

// padded is the test function's image with layers of its own, of random content.
func (n *node) padded(t *testing.T, version string, layers int, bytes int64) v1.Image {
	t.Helper()
	made := n.version(t, version)
	for range layers {
		layer, err := random.Layer(bytes, types.DockerLayer)
		if err != nil {
			t.Fatal(err)
		}
		if made, err = mutate.AppendLayers(made, layer); err != nil {
			t.Fatal(err)
		}
	}
	return made
}

// again starts the server anew with the settings that it had, and others over them.
func (n *node) again(t *testing.T, settings map[string]string) *node {
	t.Helper()
	all := map[string]string{}
	for _, name := range []string{"FN_DRIVER", "FN_REGISTRY_LISTEN", "FN_SANDBOX_MIN", "FN_SANDBOX_BRIDGE", "FN_SANDBOX_SUBNET", "FN_IOFS_PATH", "FN_CONTAINER_LABEL_TAG", "DOCKER_HOST"} {
		all[name] = n.setting(name)
	}
	for name, value := range settings {
		all[name] = value
	}
	next := &node{server: launch(t, n.dir, all), image: n.image, appID: n.appID, names: n.names}
	if !next.awaitServing() {
		t.Fatal(next.log)
	}
	t.Cleanup(next.stop)
	return next
}

// noEngine keeps the server from taking images over from an engine.
const noEngine = "unix:///nonexistent/engine.sock"

func (n *node) pulled(ref string) bool {
	return strings.Contains(n.log.String(), `"pulling image" image=`+ref)
}

func TestUnusedImagesAreRemovedBySize(t *testing.T) {
	n := startNative(t, map[string]string{"DOCKER_HOST": noEngine, "FN_REGISTRY_LISTEN": "127.0.0.1:0", "FN_IMAGE_REFRESH": "0"})
	source := image.Registry(t)
	one, two := source+"/one:1", source+"/two:1"
	pushed := n.registry(t) + "/pushed:1"
	fns := map[string]string{}
	for _, ref := range []string{one, two, pushed} {
		if err := pushTo(t, ref, n.padded(t, "1", 1, 1<<20)); err != nil {
			t.Fatal(err)
		}
		fns[ref] = n.fn(object{"image": ref})
		n.wantVersion(t, fns[ref], "1")
	}
	n.stopClean(t)
	// The last uses are the files' times.
	for _, record := range records(t, filepath.Join(n.dir, "data")) {
		if err := os.Chtimes(record, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	next := n.again(t, map[string]string{"FN_IMAGE_CLEAN_MAX_SIZE": "1", "FN_IMAGE_CLEAN_EXEMPT_TAGS": two, "FN_IMAGE_REFRESH": "0"})
	next.awaitLog(t, func(log string) bool {
		return strings.Contains(log, "removed an image, as images take more than FN_IMAGE_CLEAN_MAX_SIZE") && strings.Contains(log, one)
	})
	next.awaitMetric(t, "fn_image_cleaner_busy_img_count", "1") // that was pushed
	next.awaitMetric(t, "fn_image_cleaner_idle_img_count", "0")
	next.awaitMetric(t, "fn_image_cleaner_max_img_size", "1")
	for _, ref := range []string{one, two, pushed} {
		next.wantVersion(t, fns[ref], "1")
	}
	if !next.pulled(one) || next.pulled(two) || next.pulled(pushed) {
		t.Error(next.log)
	}
	next.stopClean(t)
}

func TestImagesAreLoadedIntoTheNativeDriver(t *testing.T) {
	n := startNative(t, map[string]string{"DOCKER_HOST": noEngine})
	archive := filepath.Join(t.TempDir(), "images.tar")
	if err := os.WriteFile(archive, saved(t, n.image), 0o600); err != nil {
		t.Fatal(err)
	}
	n.stopClean(t)
	next := n.again(t, map[string]string{"FN_DOCKER_LOAD_FILE": archive, "FN_IMAGE_CLEAN_MAX_SIZE": "1"})
	next.wantNext(t, next.fn(nil))
	if next.pulled(n.image) {
		t.Error(next.log)
	}
	next.stopClean(t)

	s := launch(t, t.TempDir(), map[string]string{"FN_DRIVER": "native", "FN_DOCKER_LOAD_FILE": "/nonexistent.tar", "FN_REGISTRY_LISTEN": "off", "FN_SANDBOX_MIN": "0", "FN_SANDBOX_BRIDGE": next.setting("FN_SANDBOX_BRIDGE"), "FN_SANDBOX_SUBNET": ownSubnet})
	if code := s.exitCode(); code == 0 || !strings.Contains(s.log.String(), "FN_DOCKER_LOAD_FILE: open /nonexistent.tar") {
		t.Errorf("exit code %d, log:\n%s", code, s.log)
	}
}

func TestImageThatFillsTheDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("sandboxes need root")
	}
	state := t.TempDir()
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("no file system of a known size can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(state, unix.MNT_DETACH) })
	free := func() uint64 {
		t.Helper()
		var stat unix.Statfs_t
		if err := unix.Statfs(state, &stat); err != nil {
			t.Fatal(err)
		}
		return stat.Bavail * uint64(stat.Bsize)
	}
	n := startNative(t, map[string]string{"DOCKER_HOST": noEngine, "FN_STATE_DIR": state, "FN_REGISTRY_LISTEN": "127.0.0.1:0"})
	source := image.Registry(t)
	fits, huge, unpacked := source+"/fits:1", source+"/huge:1", source+"/unpacked:1"
	for ref, size := range map[string]int64{fits: 12 << 20, huge: 100 << 20, unpacked: 24 << 20} { // the last one fits as long as it is packed
		if err := pushTo(t, ref, n.padded(t, "1", 1, size)); err != nil {
			t.Fatal(err)
		}
	}
	works := n.fn(object{"image": fits})
	n.wantNext(t, works)
	before := free()
	for _, ref := range []string{huge, unpacked} {
		id := n.fn(object{"image": ref})
		for range 2 {
			n.invoke(id, "", nil).wantError(t, 503, "Timed out - server too busy")
			for _, part := range []string{"pull image " + ref, "no space left for images in " + state, "set FN_IMAGE_CLEAN_MAX_SIZE", "set FN_STATE_DIR"} {
				n.awaitLog(t, func(log string) bool { return strings.Contains(log, part) })
			}
			if left := free(); left+1<<20 < before {
				t.Errorf("%d bytes are free, %d before", left, before)
			}
			n.wantNext(t, works)
		}
	}
	if err := pushTo(t, n.registry(t)+"/huge:1", n.padded(t, "1", 1, 100<<20)); err == nil || !strings.Contains(err.Error(), "no space left for images in "+state) {
		t.Errorf("push: %v", err)
	}
	n.wantNext(t, n.fn(object{"image": fits}))
	n.faulty = true // the full disk is the log's business
	n.stopClean(t)
	verifyStore(t, filepath.Join(state, "native", "images"))

	// With unused images to remove there is room.
	for _, record := range records(t, state) {
		if err := os.Chtimes(record, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	next := n.again(t, map[string]string{"FN_STATE_DIR": state, "FN_IMAGE_CLEAN_MAX_SIZE": fmt.Sprint(1 << 40)})
	other := source + "/other:1"
	if err := pushTo(t, other, n.padded(t, "2", 1, 20<<20)); err != nil {
		t.Fatal(err)
	}
	next.wantVersion(t, next.fn(object{"image": other}), "2")
	if !strings.Contains(next.log.String(), "removed an image, as the disk is full") {
		t.Errorf("nothing had to be removed, so this shows nothing:\n%s", next.log)
	}
	next.stopClean(t)
	verifyStore(t, filepath.Join(state, "native", "images"))
}

func records(t *testing.T, state string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(state, "native", "images", "images", "sha256", "*.json"))
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	return found
}

// verifyStore reads all that a store has, and finds nothing wrong.
func verifyStore(t *testing.T, dir string) {
	t.Helper()
	store, err := storedimage.Open(dir, storedimage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	problems, err := store.Verify(t.Context())
	if err != nil || len(problems)+len(store.Problems()) != 0 {
		t.Errorf("problems: %v %v %v", store.Problems(), problems, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("half written: %v %v", left, err)
	}
}

func TestServerKilledWhilePulling(t *testing.T) {
	n := startNative(t, map[string]string{"DOCKER_HOST": noEngine})
	source := image.Registry(t)
	const rounds, layers, bytes = 8, 4, 4 << 20
	refs := make([]string, rounds+1)
	for i := range refs {
		refs[i] = fmt.Sprintf("%s/killed:%d", source, i)
		if err := pushTo(t, refs[i], n.padded(t, fmt.Sprint(i), layers, bytes)); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	n.wantVersion(t, n.fn(object{"image": refs[rounds]}), fmt.Sprint(rounds))
	whole := time.Since(began)
	interrupted := 0
	for i, ref := range refs[:rounds] {
		id := n.fn(object{"image": ref})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			request, err := http.Post(n.url+"/invoke/"+id, "text/plain", strings.NewReader("{}"))
			if err == nil {
				request.Body.Close()
			}
		}()
		eventually(t, 20*time.Second, func() bool { return n.pulled(ref) }, n.log.String)
		at, err := rand.Int(rand.Reader, big.NewInt(int64(whole)))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(at.Int64()))
		_ = n.cmd.Process.Kill() // it lives
		n.exitCode()
		<-ended
		n.once.Do(func() {}) // it did not end in order
		if !strings.Contains(n.log.String(), `"image pulled" image=`+ref) {
			interrupted++
		}
		if i%2 == 0 {
			verifyStore(t, filepath.Join(n.dir, "data", "native", "images"))
		}
		n = n.again(t, nil)
		if strings.Contains(n.log.String(), "problem") {
			t.Errorf("killed after %v:\n%s", time.Duration(at.Int64()), n.log)
		}
		n.wantVersion(t, id, fmt.Sprint(i))
	}
	if interrupted == 0 {
		t.Error("no pull was interrupted, so this shows nothing")
	}
	t.Logf("%d of %d pulls were interrupted, a whole one takes %v", interrupted, rounds, whole)
	n.stopClean(t)
	verifyStore(t, filepath.Join(n.dir, "data", "native", "images"))
}
