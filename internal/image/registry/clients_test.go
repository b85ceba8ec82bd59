package registry

import (
	"encoding/json"
	"os/exec"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/moby/moby/client"

	testimage "github.com/tinefn/tine/test/image"
)

// Docker pushes to registries on loopback without encryption.
func TestDockerPushAndPull(t *testing.T) {
	local := testimage.TestFn(t)
	store, host := serve(t, Options{})
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	ref := host + "/tine-test/pushed:1"
	if _, err := engine.ImageTag(t.Context(), client.ImageTagOptions{Source: local, Target: ref}); err != nil {
		t.Fatal(err)
	}
	docker(t, "push", ref)
	docker(t, "push", ref) // with nothing to send
	lease, err := store.Acquire(ref)
	if err != nil {
		t.Fatal(err)
	}
	known, err := engine.ImageInspect(t.Context(), local)
	if err != nil || known.ID != lease.ID.String() {
		t.Errorf("identifier %s, the engine's is %s (%v)", lease.ID, known.ID, err)
	}
	lease.Release()
	docker(t, "rmi", ref)
	docker(t, "pull", ref)
	docker(t, "rmi", ref)

	if _, err := store.ImportFromEngine(t.Context(), engine, local); err != nil {
		t.Fatal(err)
	}
	if found, err := store.Get(local); err != nil || found.ID != lease.ID {
		t.Errorf("taken over from the engine: %+v %v", found, err)
	}
}

func docker(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("docker")
	if err != nil {
		t.Skipf("needs the program docker: %v", err)
	}
	if output, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("docker %q: %v\n%s", args, err, output)
	}
}

func TestSkopeoCopies(t *testing.T) {
	program, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skipf("needs the program skopeo: %v", err)
	}
	store, host := serve(t, Options{Accept: users(t, "fn:secret").Accept})
	made := randomImage(t)
	source := layoutOf(t, made)
	skopeo := func(args ...string) []byte {
		t.Helper()
		output, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo %q: %v\n%s", args, err, output)
		}
		return output
	}
	ref := host + "/a/b:1"
	skopeo("--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-creds=fn:secret", "oci:"+source, "docker://"+ref)
	if lease, err := store.Acquire(ref); err != nil {
		t.Error(err)
	} else {
		lease.Release()
	}
	skopeo("--insecure-policy", "copy", "--src-tls-verify=false", "--src-creds=fn:secret", "docker://"+ref, "dir:"+t.TempDir())
	var inspected struct{ Digest string }
	if err := json.Unmarshal(skopeo("inspect", "--tls-verify=false", "--creds=fn:secret", "docker://"+ref), &inspected); err != nil {
		t.Fatal(err)
	}
	if found, err := store.Get(ref); err != nil || found.Target.String() != inspected.Digest {
		t.Errorf("digest %s, the store's %v (%v)", inspected.Digest, found.Target, err)
	}
	skopeo("delete", "--tls-verify=false", "--creds=fn:secret", "docker://"+ref)
	if _, err := store.Get(ref); err == nil {
		t.Error("deleted, but there")
	}
}

func layoutOf(t *testing.T, made v1.Image) string {
	t.Helper()
	path, err := layout.Write(t.TempDir(), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(made); err != nil {
		t.Fatal(err)
	}
	return string(path)
}
