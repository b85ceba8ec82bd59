package docker_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/client/pkg/versions"
)

// change is what a version of the API has made different. Source: "Engine API
// version history", docs/CHANGELOG.md of the module github.com/moby/moby/api.
type change struct {
	since string
	of    func(*exchange) bool
	apply func(answer map[string]any)
}

func imageInspection(e *exchange) bool {
	return e.Method == http.MethodGet && strings.HasPrefix(e.Path, "/images/") && e.Status == http.StatusOK
}

func containerInspection(e *exchange) bool {
	return e.Method == http.MethodGet && strings.HasPrefix(e.Path, "/containers/") && e.Path != "/containers/json"
}

func within(name string, apply func(map[string]any)) func(map[string]any) {
	return func(answer map[string]any) {
		if inner, ok := answer[name].(map[string]any); ok {
			apply(inner)
		}
	}
}

func without(names ...string) func(map[string]any) {
	return func(answer map[string]any) {
		for _, name := range names {
			delete(answer, name)
		}
	}
}

func withoutEmpty(names ...string) func(map[string]any) {
	return func(answer map[string]any) {
		for _, name := range names {
			if value := answer[name]; value == nil || reflect.ValueOf(value).IsZero() {
				delete(answer, name)
			}
		}
	}
}

var changes = []change{
	{"1.44", imageInspection, without("VirtualSize")},
	{"1.45", imageInspection, without("Container", "ContainerConfig")},
	{"1.48", imageInspection, func(answer map[string]any) { // of an engine that keeps images in containerd
		answer["Descriptor"] = map[string]any{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": answer["Id"], "size": 1609}
	}},
	{"1.50", imageInspection, within("Config", without("Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty",
		"OpenStdin", "StdinOnce", "Image", "NetworkDisabled", "MacAddress", "StopTimeout"))},
	{"1.52", imageInspection, withoutEmpty("Parent", "Comment", "DockerVersion", "Author")},
	{"1.52", imageInspection, within("Config", withoutEmpty("Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir"))},
	{"1.52", containerInspection, within("NetworkSettings", without("Bridge", "HairpinMode", "LinkLocalIPv6Address", "LinkLocalIPv6PrefixLen",
		"SecondaryIPAddresses", "SecondaryIPv6Addresses", "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen",
		"IPAddress", "IPPrefixLen", "IPv6Gateway", "MacAddress"))},
}

// since reports whether a version is that one or a later one.
func since(version, first string) bool { return !versions.LessThan(version, first) }

// at is the exchange as an engine has it that speaks a version.
func (e exchange) at(t *testing.T, version string) exchange {
	if strings.HasSuffix(e.Path, "/attach") && since(version, "1.42") {
		e.Type = "application/vnd.docker.multiplexed-stream"
	}
	if e.Path == "/images/create" && since(version, "1.48") { // deprecated, for the details beside it
		var lines strings.Builder
		for line := range strings.Lines(e.Text) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Error(err)
			}
			without("progress", "error")(fields)
			text, _ := json.Marshal(fields) // cannot fail
			lines.Write(append(text, '\r', '\n'))
		}
		e.Text = lines.String()
	}
	for _, change := range changes {
		if !since(version, change.since) || !change.of(&e) {
			continue
		}
		var answer map[string]any
		if err := json.Unmarshal(e.JSON, &answer); err != nil {
			t.Error(err)
			continue
		}
		change.apply(answer)
		e.JSON, _ = json.Marshal(answer) // cannot fail
	}
	return e
}

// player answers as a recorded engine, in the form of one version.
type player struct {
	t       *testing.T
	own     string // newest version that it says it has
	version string // that it expects
	known   map[string][]string

	mu      sync.Mutex // guards the rest
	answers map[string][]exchange
	ended   map[string]chan struct{} // by the container's path: closed when it was stopped
}

func key(method, path, name string) string { return method + " " + path + " " + name }

func newPlayer(t *testing.T, own, version string) *player {
	t.Helper()
	var recorded recording
	text, err := os.ReadFile(recordingFile)
	if err == nil {
		err = json.Unmarshal(text, &recorded)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &player{t: t, own: own, version: version, answers: map[string][]exchange{}, ended: map[string]chan struct{}{}, known: createFields(t, version)}
	for _, e := range recorded.Exchanges {
		k := key(e.Method, e.Path, e.Name)
		p.answers[k] = append(p.answers[k], e)
	}
	return p
}

// stopped is closed when the container of a request was stopped.
func (p *player) stopped(path string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	container := path[:strings.LastIndexByte(path, '/')]
	if p.ended[container] == nil {
		p.ended[container] = make(chan struct{})
	}
	return p.ended[container]
}

func (p *player) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", p.own)
	if r.URL.Path == "/_ping" {
		return
	}
	path, found := strings.CutPrefix(r.URL.Path, "/v"+p.version)
	if !found {
		p.t.Errorf("asked for %s, want version %s", r.URL.Path, p.version)
	}
	p.mu.Lock()
	k := key(r.Method, path, r.URL.Query().Get("name"))
	answers := p.answers[k]
	// How often the driver looks at something is not what matters here.
	if len(answers) > 1 || len(answers) == 1 && r.Method != http.MethodGet {
		p.answers[k] = answers[1:]
	}
	p.mu.Unlock()
	if len(answers) == 0 {
		p.t.Errorf("nothing is recorded for another %s", k)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	e := answers[0].at(p.t, p.version)
	switch {
	case path == "/containers/create":
		p.checkCreate(r.Body)
	case strings.HasSuffix(path, "/stop"):
		close(p.stopped(path))
	case strings.HasSuffix(path, "/attach"):
		p.attach(w, path, e)
		return
	}
	w.Header().Set("Content-Type", e.Type)
	w.WriteHeader(e.Status)
	_, _ = w.Write(e.JSON)
	_, _ = io.WriteString(w, e.Text)
}

func (p *player) attach(w http.ResponseWriter, path string, e exchange) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		p.t.Error(err)
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n%s", e.Type, e.Text)
	if e.Text == "" {
		<-p.stopped(path)
	}
}

// createFieldsFile has what the documented requests to make a container are
// made of, by the version that changed it. Source: the definitions
// ContainerConfig, HostConfig and Mount in docs/v1.*.yaml of the module
// github.com/moby/moby/api.
const createFieldsFile = "testdata/create-fields.json"

func createFields(t *testing.T, version string) map[string][]string {
	t.Helper()
	var since map[string]map[string][]string
	text, err := os.ReadFile(createFieldsFile)
	if err == nil {
		err = json.Unmarshal(text, &since)
	}
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{}
	for first := range versionsUpTo(version) {
		maps.Copy(known, since[first])
	}
	return known
}

// versionsUpTo yields the versions from 1.41 on.
func versionsUpTo(last string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for n := 41; ; n++ {
			version := fmt.Sprintf("1.%d", n)
			if versions.LessThan(last, version) || !yield(version) {
				return
			}
		}
	}
}

// checkCreate finds fields that say something and that the version does not know.
func (p *player) checkCreate(body io.Reader) {
	var config map[string]any
	if err := json.NewDecoder(body).Decode(&config); err != nil {
		p.t.Error(err)
		return
	}
	host, _ := config["HostConfig"].(map[string]any)
	mounts, _ := host["Mounts"].([]any)
	delete(config, "HostConfig")
	delete(config, "NetworkingConfig")
	check := func(of string, fields any) {
		object, _ := fields.(map[string]any)
		for name, value := range object {
			if !empty(value) && !slices.Contains(p.known[of], name) {
				p.t.Errorf("version %s knows no %s.%s, which is %v", p.version, of, name, value)
			}
		}
	}
	check("Config", config)
	check("HostConfig", host)
	for _, mount := range mounts {
		check("Mount", mount)
	}
}

func empty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case []any:
		return !slices.ContainsFunc(value, func(item any) bool { return !empty(item) })
	case map[string]any:
		return len(value) == 0
	}
	return reflect.ValueOf(value).IsZero()
}
