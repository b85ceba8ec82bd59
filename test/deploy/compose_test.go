package deploy

import (
	"bytes"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/tinefn/tine/internal/config"
)

// composition is what this project uses of a compose file. Anything else in it is an error.
type composition struct {
	Name     string             `yaml:"name"`
	Node     any                `yaml:"x-node"`
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
}

type service struct {
	Image string `yaml:"image"`
	Build struct {
		Context    string `yaml:"context"`
		Dockerfile string `yaml:"dockerfile"`
	} `yaml:"build"`
	Restart         string            `yaml:"restart"`
	StopGracePeriod time.Duration     `yaml:"stop_grace_period"`
	Environment     map[string]string `yaml:"environment"`
	Volumes         []string          `yaml:"volumes"`
	Ports           []string          `yaml:"ports"`
}

func (s service) environ() (list []string) {
	for name, value := range s.Environment {
		list = append(list, name+"="+value)
	}
	return list
}

func readComposition(t *testing.T) (c composition) {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(read(t, "compose/compose.yaml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposition(t *testing.T) {
	c := readComposition(t)
	kinds := map[string]int{}
	for name, s := range c.Services {
		loaded := load(t, s.environ())
		kinds[loaded.NodeType]++
		if s.StopGracePeriod < loaded.ShutdownTimeout+10*time.Second {
			t.Errorf("%s is killed after %v, and its own deadline is %v", name, s.StopGracePeriod, loaded.ShutdownTimeout)
		}
		// Paths are relative to the file's directory, and the Dockerfile's to the context.
		context := filepath.Join(dir, "compose", s.Build.Context)
		if _, err := os.Stat(filepath.Join(context, "go.mod")); err != nil {
			t.Errorf("%s is not built from the repository: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(context, s.Build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, volume := range s.Volumes {
			if source, _, _ := strings.Cut(volume, ":"); !filepath.IsAbs(source) {
				if _, ok := c.Volumes[source]; !ok {
					t.Errorf("%s has a volume %s that there is not", name, source)
				}
			}
		}
	}
	if kinds["api"] != 1 || kinds["lb"] != 1 || kinds["pure-runner"] != 2 {
		t.Errorf("nodes: %v", kinds)
	}
	lb := c.Services["lb"].Environment
	for address := range strings.SplitSeq(lb["FN_RUNNER_ADDRESSES"], ",") {
		host, port, err := net.SplitHostPort(address)
		runner := c.Services[host].Environment
		if err != nil || runner["FN_NODE_TYPE"] != "pure-runner" || runner["FN_GRPC_PORT"] != port {
			t.Errorf("%s is no runner (%v)", address, err)
		}
	}
	api, err := url.Parse(lb["FN_RUNNER_API_URL"])
	if err != nil || c.Services[api.Hostname()].Environment["FN_NODE_TYPE"] != "api" || api.Port() != "8080" {
		t.Errorf("%s is no API node (%v)", api, err)
	}
}

// Runners of one engine must not take each other's things for their own, and the engine
// must find the directories that they tell it of.
func TestRunnersOfTheCompositionAreApart(t *testing.T) {
	tags := map[string]bool{}
	for name, s := range readComposition(t).Services {
		loaded := load(t, s.environ())
		if loaded.NodeType != "pure-runner" {
			continue
		}
		if tag := s.Environment["FN_CONTAINER_LABEL_TAG"]; tag == "" || tags[tag] {
			t.Errorf("%s has the tag %q", name, tag)
		} else {
			tags[tag] = true
		}
		for _, path := range []string{loaded.Sockets.Path, loaded.Engine.StateDir} {
			if !slices.Contains(s.Volumes, path+":"+path) {
				t.Errorf("%s: the engine does not see %s", name, path)
			}
		}
		if loaded.Engine.Driver != config.DriverDocker || !slices.Contains(s.Volumes, "/var/run/docker.sock:/var/run/docker.sock") {
			t.Errorf("%s has no engine", name)
		}
	}
}

func TestImageStartsTheServer(t *testing.T) {
	text := string(read(t, "compose/Dockerfile"))
	for _, want := range []string{"\nRUN CGO_ENABLED=0 make build\n", "\nFROM scratch\n", "/src/bin/fnserver /src/bin/sandbox-init /usr/local/bin/\n", "\nENTRYPOINT [\"/usr/local/bin/fnserver\"]\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q", want)
		}
	}
	ignored := "\n" + string(read(t, "../.dockerignore"))
	for _, want := range []string{"\nbin\n", "\ndata\n"} {
		if !strings.Contains(ignored, want) {
			t.Errorf("there is no %q in .dockerignore", want)
		}
	}
}
