package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/registry"

	"github.com/tinefn/tine/test/image"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("sandboxes need root")
	}
}

// ownBridge is a bridge that no other server has, and ownSubnet its network.
func ownBridge() string { return fmt.Sprintf("tine%d", os.Getpid()) }

const ownSubnet = "10.86.0.0/20"

// startNative starts a node that runs functions itself. Its bridge is its own, as
// another server may be on the machine.
func startNative(t *testing.T, settings map[string]string) *node {
	t.Helper()
	needRoot(t)
	all := map[string]string{"FN_DRIVER": "native", "FN_SANDBOX_MIN": "3", "FN_SANDBOX_BRIDGE": ownBridge(), "FN_SANDBOX_SUBNET": ownSubnet}
	for name, value := range settings {
		all[name] = value
	}
	return startNode(t, all)
}

// instance is the name of the native driver's things on the machine.
func (n *node) instance(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.dir, "data", "native", "instance"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// groups are the control groups of the native driver's instance, in each hierarchy.
func (n *node) groups(t *testing.T) (dirs []string) {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, err := filepath.Glob(root + "/tine/" + n.instance(t))
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, found...)
	}
	return dirs
}

// sandboxes tells what native drivers have on the machine.
func sandboxes(t *testing.T, n *node) string {
	t.Helper()
	found := n.groups(t)
	if _, err := net.InterfaceByName(n.setting("FN_SANDBOX_BRIDGE")); err == nil {
		found = append(found, "bridge")
	}
	return strings.Join(found, " ")
}

func TestNativeDriverServesCalls(t *testing.T) {
	n := startNative(t, nil)
	id, other := n.fn(nil), n.fn(nil)
	n.wantNext(t, id)
	n.awaitMetric(t, `tine_prefork_leases_total{result="hit"}`, "1")
	for range 3 {
		n.wantNext(t, id)
		time.Sleep(100 * time.Millisecond) // it is frozen meanwhile
	}
	n.awaitMetric(t, "tine_thaw_seconds_count", "2") // the first time it was busy just before
	n.wantNext(t, other)

	n.invoke(id, `{"isCrash":true}`, nil).wantError(t, 502, noResponse)
	n.wantNext(t, id)
	if got := n.invoke(id, `{"allocateMemory":209715200}`, nil); got.status != 502 {
		t.Errorf("out of memory: %d %s", got.status, got.body)
	}
	n.awaitLog(t, func(log string) bool { return strings.Contains(log, "out of memory") })
	n.wantNext(t, id)
	if got := n.invoke(n.fn(object{"image": "127.0.0.1:1/absent:1"}), "", nil); got.status < 400 {
		t.Errorf("an image that nobody has: %d %s", got.status, got.body)
	}
	if got := sandboxes(t, n); got == "" {
		t.Error("there is no sandbox, so this shows nothing")
	}
	n.stopClean(t)
	if left := sandboxes(t, n); left != "" {
		t.Errorf("left: %s", left)
	}
}

// A machine on which a sandbox lacks something is busy, and says of what in the log.
func TestNativeDriverWithoutAFreeAddressIsBusy(t *testing.T) {
	const addresses = 5 // of a /29
	n := startNative(t, map[string]string{"FN_SANDBOX_MAX": "0", "FN_SANDBOX_SUBNET": "10.86.16.0/29"})
	var fns []string
	for range addresses {
		fns = append(fns, n.fn(object{"idle_timeout": 3600}))
		n.wantNext(t, fns[len(fns)-1])
	}
	last := n.fn(nil)
	got := n.invoke(last, "", nil)
	got.wantError(t, 503, "Timed out - server too busy")
	if after := got.header.Get("Retry-After"); after == "" {
		t.Error("it does not say when to try again")
	}
	n.awaitLog(t, func(log string) bool {
		return strings.Contains(log, "FN_SANDBOX_SUBNET to a larger network") && strings.Contains(log, "make sandbox")
	})
	if got := n.send("DELETE", "/v2/fns/"+fns[0], "", nil); got.status != 204 {
		t.Fatal(got)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if got := n.invoke(last, "", nil); got.status == 200 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("when there is an address again: %d %s", got.status, got.body)
		}
	}
	n.stopClean(t)
	if left := sandboxes(t, n); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestNativeServerKilledUnderLoadAndStartedAgain(t *testing.T) {
	n := startNative(t, nil)
	first, second := n.fn(nil), n.fn(nil)
	n.wantNext(t, first)
	n.wantNext(t, second)
	l := n.underLoad(t, 8, first, second)
	l.await(t, 200)
	_ = n.cmd.Process.Kill() // it lives
	n.exitCode()
	l.end()
	n.once.Do(func() {}) // it did not end in order
	left := sandboxes(t, n)
	if left == "" {
		t.Fatal("the killed server left nothing, so there is nothing to test")
	}
	settings := map[string]string{}
	for _, name := range []string{"FN_DRIVER", "FN_REGISTRY_LISTEN", "FN_SANDBOX_MIN", "FN_SANDBOX_BRIDGE", "FN_SANDBOX_SUBNET", "FN_IOFS_PATH", "FN_CONTAINER_LABEL_TAG"} {
		settings[name] = n.setting(name)
	}
	next := &node{server: launch(t, n.dir, settings), image: n.image, appID: n.appID, names: n.names}
	if !next.awaitServing() {
		t.Fatal(next.log)
	}
	t.Cleanup(next.stop)
	next.wantNext(t, first)
	for _, group := range strings.Fields(left) {
		if _, err := os.Stat(group); err == nil {
			t.Errorf("%s of the killed server is left", group)
		}
	}
	next.stopClean(t)
	if left := sandboxes(t, next); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestNativeDriverKeepsTheImagesOfAppsApart(t *testing.T) {
	auth := t.TempDir()
	n := startNative(t, map[string]string{"FN_APP_DOCKER_AUTH_DIR": auth})
	address := image.PrivateRegistry(t)
	ref := address + "/tine-test/private:1"
	image.Push(t, n.image, ref, registry.AuthConfig{Username: image.RegistryUser, Password: image.RegistryPassword})
	credentials := fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, address, image.RegistryUser, image.RegistryPassword)
	if err := os.WriteFile(filepath.Join(auth, n.appID+".json"), credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := "Failed to pull image '" + ref + "'"
	stranger := n.fn(object{"image": ref, "app_id": n.create("/v2/apps", object{"name": "stranger"})})
	if got := n.invoke(stranger, "", nil); got.status < 400 || !strings.Contains(got.body, refused) {
		t.Errorf("before the pull: %d %s", got.status, got.body)
	}
	owner := n.fn(object{"image": ref})
	n.wantNext(t, owner)
	another := n.fn(object{"image": ref, "app_id": n.create("/v2/apps", object{"name": "another"})})
	if got := n.invoke(another, "", nil); got.status < 400 || !strings.Contains(got.body, refused) {
		t.Errorf("after the pull: %d %s", got.status, got.body)
	}
	n.wantNext(t, owner)
	n.stopClean(t)
}
