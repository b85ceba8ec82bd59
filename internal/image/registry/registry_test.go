package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/tinefn/tine/internal/image"
)

// serve runs a registry of a new store on loopback.
func serve(t testing.TB, opts Options) (*image.Store, string) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs Linux and root: owners and whiteouts of layers")
	}
	store, err := image.Open(t.TempDir(), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	opts.Host = server.Listener.Addr().String()
	g, err := New(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = g
	server.Start()
	t.Cleanup(func() {
		server.Close()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(store.Dir() + "/tmp"); err != nil || len(left) != 0 {
			t.Errorf("left half written: %v %v", left, err)
		}
		store.Close()
	})
	return store, opts.Host
}

func users(t testing.TB, text string) *Users {
	t.Helper()
	parsed, err := ParseUsers(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func randomImage(t testing.TB) v1.Image {
	t.Helper()
	made, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func parse(t testing.TB, text string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestPushAndPull(t *testing.T) {
	store, host := serve(t, Options{})
	made := randomImage(t)
	ref := parse(t, host+"/fn/blobs/hello:1")
	if err := remote.Write(ref, made); err != nil {
		t.Fatal(err)
	}
	// It starts without a pull.
	lease, err := store.Acquire(ref.String())
	if err != nil || len(lease.Layers) != 3 {
		t.Fatalf("acquire: %v %v", lease, err)
	}
	lease.Release()
	digest, err := made.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []name.Reference{ref, ref.Context().Digest(digest.String())} {
		got, err := remote.Image(by)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(got); err != nil {
			t.Errorf("%s: %v", by, err)
		}
		if found, _ := got.Digest(); found != digest {
			t.Errorf("%s: %s", by, found)
		}
	}
	// Into another repository, by mounts.
	if err := remote.Write(parse(t, host+"/other:2"), made); err != nil {
		t.Fatal(err)
	}
	if tags, err := remote.List(ref.Context()); err != nil || fmt.Sprint(tags) != "[1]" {
		t.Errorf("tags: %v %v", tags, err)
	}
	if all, err := remote.Catalog(t.Context(), ref.Context().Registry); err != nil || fmt.Sprint(all) != "[fn/blobs/hello other]" {
		t.Errorf("catalog: %v %v", all, err)
	}
	if err := remote.Delete(ref.Context().Digest(digest.String())); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Image(ref); err == nil {
		t.Error("deleted, but there")
	}
	if _, err := remote.Image(parse(t, host+"/other:2")); err != nil {
		t.Errorf("other repository: %v", err)
	}
	if err := remote.Delete(parse(t, host+"/other:2")); err != nil {
		t.Fatal(err)
	}
}

func TestPushOfAnIndex(t *testing.T) {
	store, host := serve(t, Options{})
	platform := store.Platform()
	other := v1.Platform{OS: "linux", Architecture: "s390x"}
	add := func(p v1.Platform) mutate.IndexAddendum {
		made := randomImage(t)
		config, err := made.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config = config.DeepCopy()
		config.OS, config.Architecture = p.OS, p.Architecture
		if made, err = mutate.ConfigFile(made, config); err != nil {
			t.Fatal(err)
		}
		return mutate.IndexAddendum{Add: made, Descriptor: v1.Descriptor{Platform: &p}}
	}
	mine := add(platform)
	index := mutate.AppendManifests(empty.Index, add(other), mine)
	ref := parse(t, host+"/multi:1")
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	lease, err := store.Acquire(ref.String())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	if digest, _ := mine.Add.(v1.Image).Digest(); lease.Manifest != digest {
		t.Errorf("manifest %s", lease.Manifest)
	}
	got, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil {
		t.Error(err)
	}
	if err := remote.WriteIndex(parse(t, host+"/foreign:1"), mutate.AppendManifests(empty.Index, add(other))); err != nil {
		t.Fatalf("for others only: %v", err)
	}
	if _, err := store.Acquire(host + "/foreign:1"); err == nil {
		t.Error("an image for others can be acquired")
	}
}

// Who pushes learns at once that an image cannot run.
func TestPushOfWhatCannotBeUnpacked(t *testing.T) {
	store, host := serve(t, Options{})
	made, err := mutate.AppendLayers(randomImage(t), static.NewLayer([]byte("no archive, but long enough to be taken for one"), types.DockerUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	err = remote.Write(parse(t, host+"/a:1"), made)
	refused, ok := errors.AsType[*transport.Error](err)
	if !ok || refused.StatusCode != 400 || refused.Errors[0].Code != codeManifestInvalid {
		t.Errorf("got %v", err)
	}
	if images := store.List(); len(images) != 0 {
		t.Errorf("images: %v", images)
	}
}

func TestAuthentication(t *testing.T) {
	_, host := serve(t, Options{Accept: users(t, "fn:secret").Accept})
	ref := parse(t, host+"/a:1")
	for _, auth := range []authn.Authenticator{authn.Anonymous, &authn.Basic{Username: "fn", Password: "wrong"}, &authn.Basic{Username: "x", Password: "secret"}} {
		if err := remote.Write(ref, randomImage(t), remote.WithAuth(auth)); err == nil {
			t.Errorf("%v may push", auth)
		}
	}
	if err := remote.Write(ref, randomImage(t), remote.WithAuth(&authn.Basic{Username: "fn", Password: "secret"})); err != nil {
		t.Error(err)
	}
	response := do(t, http.MethodGet, "http://"+host+"/v2/", "")
	if response.code != 401 || response.error != codeUnauthorized || !strings.HasPrefix(response.header.Get("Www-Authenticate"), "Basic ") {
		t.Errorf("got %+v", response)
	}
}

func TestReadOnly(t *testing.T) {
	_, host := serve(t, Options{ReadOnly: true})
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if got := do(t, method, "http://"+host+"/v2/a/blobs/uploads/", ""); got.code != 405 || got.error != codeUnsupported {
			t.Errorf("%s: %+v", method, got)
		}
	}
	if got := do(t, http.MethodGet, "http://"+host+"/v2/", ""); got.code != 200 {
		t.Errorf("got %+v", got)
	}
}

type answer struct {
	code   int
	error  string
	header http.Header
	body   string
}

// do sends a request; fields are alternately names and values of the header.
func do(t testing.TB, method, url, body string, fields ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		request.Header.Set(fields[i], fields[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := answer{response.StatusCode, "", response.Header, string(content)}
	var parsed struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(content, &parsed) == nil && len(parsed.Errors) == 1 && parsed.Errors[0].Message != "" {
		got.error = parsed.Errors[0].Code
	}
	return got
}

func TestUploadInParts(t *testing.T) {
	store, host := serve(t, Options{})
	base := "http://" + host
	digest := image.DigestOf([]byte("hello world"))
	begun := do(t, http.MethodPost, base+"/v2/a/blobs/uploads/", "")
	if begun.code != 202 {
		t.Fatalf("begin: %+v", begun)
	}
	at := base + begun.header.Get("Location")
	if got := do(t, http.MethodPatch, at, "hello ", "Content-Range", "0-5"); got.code != 202 || got.header.Get("Range") != "0-5" {
		t.Errorf("first: %+v", got)
	}
	for _, wrong := range []string{"0-5", "7-11", "6-100"} {
		if got := do(t, http.MethodPatch, at, "world", "Content-Range", wrong); got.code != 416 || got.error != codeUploadInvalid {
			t.Errorf("range %s: %+v", wrong, got)
		}
	}
	if got := do(t, http.MethodPatch, at, "world", "Content-Range", "x"); got.code != 400 {
		t.Errorf("no range: %+v", got)
	}
	if got := do(t, http.MethodGet, at, ""); got.code != 204 || got.header.Get("Range") != "0-5" {
		t.Errorf("how far: %+v", got)
	}
	if got := do(t, http.MethodGet, strings.Replace(at, "/v2/a/", "/v2/b/", 1), ""); got.code != 404 || got.error != codeUploadUnknown {
		t.Errorf("in another repository: %+v", got)
	}
	if got := do(t, http.MethodPut, at+"?digest=nonsense", ""); got.code != 400 || got.error != codeDigestInvalid {
		t.Errorf("no digest: %+v", got)
	}
	if got := do(t, http.MethodPut, at+"?digest="+digest.String(), "world"); got.code != 201 || got.header.Get("Docker-Content-Digest") != digest.String() {
		t.Errorf("end: %+v", got)
	}
	if got := do(t, http.MethodGet, at, ""); got.code != 404 || got.error != codeUploadUnknown {
		t.Errorf("after the end: %+v", got)
	}
	blob := base + "/v2/a/blobs/" + digest.String()
	if got := do(t, http.MethodGet, blob, "", "Range", "bytes=6-"); got.code != 206 || got.body != "world" {
		t.Errorf("range: %+v", got)
	}
	if got := do(t, http.MethodHead, blob, ""); got.code != 200 || got.header.Get("Content-Length") != "11" || got.body != "" {
		t.Errorf("head: %+v", got)
	}
	if got := do(t, http.MethodDelete, blob, ""); got.code != 405 {
		t.Errorf("delete: %+v", got)
	}
	if got := do(t, http.MethodPost, base+"/v2/b/blobs/uploads/?from=a&mount="+digest.String(), ""); got.code != 201 {
		t.Errorf("mount: %+v", got)
	}
	absent := image.DigestOf([]byte("absent")).String()
	if got := do(t, http.MethodPost, base+"/v2/b/blobs/uploads/?from=a&mount="+absent, ""); got.code != 202 {
		t.Errorf("mount of nothing: %+v", got)
	}
	whole := image.DigestOf([]byte("whole"))
	if got := do(t, http.MethodPost, base+"/v2/a/blobs/uploads/?digest="+whole.String(), "whole"); got.code != 201 {
		t.Errorf("at once: %+v", got)
	}
	if _, ok := store.HasBlob(whole); !ok {
		t.Error("a blob that was sent at once is not there")
	}
	if got := do(t, http.MethodPost, base+"/v2/a/blobs/uploads/?digest="+absent, "other"); got.code != 400 || got.error != codeDigestInvalid {
		t.Errorf("another digest: %+v", got)
	}
	cancelled := base + do(t, http.MethodPost, base+"/v2/a/blobs/uploads/", "").header.Get("Location")
	if got := do(t, http.MethodDelete, cancelled, ""); got.code != 204 {
		t.Errorf("cancel: %+v", got)
	}
}

func TestUploadsAreBounded(t *testing.T) {
	_, host := serve(t, Options{Uploads: 2, UploadTimeout: 200 * time.Millisecond})
	begin := "http://" + host + "/v2/a/blobs/uploads/"
	at := "http://" + host + do(t, http.MethodPost, begin, "").header.Get("Location")
	do(t, http.MethodPost, begin, "")
	if got := do(t, http.MethodPost, begin, ""); got.code != 429 || got.error != codeTooManyRequests {
		t.Errorf("one too many: %+v", got)
	}
	for end := time.Now().Add(5 * time.Second); do(t, http.MethodPost, begin, "").code != 202; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("uploads do not end")
		}
	}
	if got := do(t, http.MethodPatch, at, "x"); got.code != 404 {
		t.Errorf("after its time: %+v", got)
	}
}

// A client that stops in the middle of a part does not hold the upload.
func TestStalledPart(t *testing.T) {
	_, host := serve(t, Options{BodyTimeout: 100 * time.Millisecond, UploadTimeout: 200 * time.Millisecond})
	at := "http://" + host + do(t, http.MethodPost, "http://"+host+"/v2/a/blobs/uploads/", "").header.Get("Location")
	body, writer := io.Pipe()
	defer writer.Close()
	go func() { _, _ = writer.Write([]byte("part")) }()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, at, body)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err == nil {
		defer response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("got %s", response.Status)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	for end := time.Now().Add(5 * time.Second); do(t, http.MethodGet, at, "").code != 404; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the upload does not end")
		}
		time.Sleep(300 * time.Millisecond) // asking is a sign of life
	}
}

func TestManifestErrors(t *testing.T) {
	_, host := serve(t, Options{})
	base := "http://" + host + "/v2/"
	const oci = "application/vnd.oci.image.manifest.v1+json"
	absent := image.DigestOf([]byte("absent")).String()
	missing := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":6,"digest":%q},"layers":[]}`, absent)
	tests := map[string]struct {
		path, body string
		code       int
		error      string
	}{
		"no JSON":        {"a/manifests/1", "{", 400, codeManifestInvalid},
		"missing blob":   {"a/manifests/1", missing, 400, codeManifestBlobUnknown},
		"other digest":   {"a/manifests/" + absent, missing, 400, codeDigestInvalid},
		"bad tag":        {"a/manifests/-x", missing, 400, codeManifestInvalid},
		"bad name":       {"A/manifests/1", missing, 400, codeNameInvalid},
		"dots":           {"a/../b/manifests/1", missing, 400, codeNameInvalid},
		"too large":      {"a/manifests/1", strings.Repeat(" ", image.DefaultManifestBytes+1), 413, codeSizeInvalid},
		"two in one":     {"a/manifests/1", `{"schemaVersion":2,"config":{},"manifests":[]}`, 400, codeManifestInvalid},
		"schema 1":       {"a/manifests/1", `{"schemaVersion":1,"fsLayers":[]}`, 400, codeManifestInvalid},
		"no digest":      {"a/manifests/1", `{"schemaVersion":2,"config":{"digest":"sha256:.."}}`, 400, codeManifestInvalid},
		"missing config": {"a/manifests/1", `{"schemaVersion":2,"layers":[]}`, 400, codeManifestInvalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			request.URL.Path = "/v2/" + tt.path // as it is
			request.Header.Set("Content-Type", oci)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			content, _ := io.ReadAll(response.Body)
			if response.StatusCode != tt.code || !bytes.Contains(content, []byte(tt.error)) {
				t.Errorf("got %d %s", response.StatusCode, content)
			}
		})
	}
	for path, want := range map[string]string{
		"a/manifests/1": codeManifestUnknown, "a/tags/list": codeNameUnknown, "a/blobs/" + absent: codeBlobUnknown, "a/blobs/x": codeDigestInvalid,
		"a/referrers/x": codeDigestInvalid, "nothing": codeUnknown,
	} {
		if got := do(t, http.MethodGet, base+path, ""); got.error != want {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

// A manifest that says something wrong about a blob must not harm images that
// have the blob.
func TestManifestWithAWrongSize(t *testing.T) {
	store, host := serve(t, Options{})
	made := randomImage(t)
	ref := parse(t, host+"/a:1")
	if err := remote.Write(ref, made); err != nil {
		t.Fatal(err)
	}
	m, err := made.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m = m.DeepCopy()
	m.Layers[0].Size++
	content, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got := do(t, http.MethodPut, "http://"+host+"/v2/b/manifests/1", string(content), "Content-Type", string(m.MediaType))
	if got.code != 400 || got.error != codeManifestInvalid {
		t.Errorf("got %+v", got)
	}
	if problems, err := store.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
	lease, err := store.Acquire(ref.String())
	if err != nil {
		t.Fatal(err)
	}
	lease.Release()
}

func TestReferrers(t *testing.T) {
	_, host := serve(t, Options{})
	made := randomImage(t)
	ref := parse(t, host+"/a:1")
	if err := remote.Write(ref, made); err != nil {
		t.Fatal(err)
	}
	digest, err := made.Digest()
	if err != nil {
		t.Fatal(err)
	}
	size, _ := made.Size()
	subject := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digest, Size: size}
	for i, kind := range []types.MediaType{"application/x-signature", "application/x-sbom"} {
		about := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), kind)
		about = mutate.Annotations(about, map[string]string{"about": "it"}).(v1.Image)
		about = mutate.Subject(about, subject).(v1.Image) // last: others forget it
		if err := remote.Write(parse(t, fmt.Sprintf("%s/a:about-%d", host, i)), about); err != nil {
			t.Fatal(err)
		}
	}
	list := func(query string) v1.IndexManifest {
		t.Helper()
		got := do(t, http.MethodGet, "http://"+host+"/v2/"+query, "")
		var index v1.IndexManifest
		if err := json.Unmarshal([]byte(got.body), &index); err != nil || got.code != 200 || got.header.Get("Content-Type") != string(types.OCIImageIndex) {
			t.Fatalf("%s: %+v %v", query, got, err)
		}
		return index
	}
	if got := list("a/referrers/" + digest.String()); len(got.Manifests) != 2 || got.Manifests[0].Annotations["about"] != "it" {
		t.Errorf("got %+v", got)
	}
	got := list("a/referrers/" + digest.String() + "?artifactType=application/x-sbom")
	if len(got.Manifests) != 1 || got.Manifests[0].ArtifactType != "application/x-sbom" {
		t.Errorf("filtered: %+v", got)
	}
	if got := list("b/referrers/" + digest.String()); len(got.Manifests) != 0 {
		t.Errorf("in another repository: %+v", got)
	}
}

func TestPages(t *testing.T) {
	all := []string{"a", "b", "c"}
	for query, want := range map[string]string{"": "[a b c]", "n=2": "[a b]", "n=2&last=b": "[c]", "n=0": "[]", "last=z": "[]", "last=aa": "[b c]"} {
		w := httptest.NewRecorder()
		got, err := page(w, httptest.NewRequest(http.MethodGet, "/v2/x/tags/list?"+query, nil), all)
		if err != nil || fmt.Sprint(got) != want || (w.Header().Get("Link") != "") != (query == "n=2") {
			t.Errorf("%s: %v %v %v", query, got, err, w.Header())
		}
	}
	if _, err := page(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/?n=-1", nil), all); err == nil {
		t.Error("no error")
	}
}

// A path has one meaning, whatever is in it.
func FuzzParsePath(f *testing.F) {
	for _, path := range []string{"a/b/manifests/1", "a/blobs/uploads/", "blobs/uploads/blobs/uploads/x", "tags/list/tags/list", "a/blobs/sha256:1", "_catalog"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		to, ok := parsePath(path)
		if ok && (to.kind == "" || len(to.repository)+len(to.reference) >= len(path)) {
			t.Errorf("%q: %+v", path, to)
		}
	})
}
