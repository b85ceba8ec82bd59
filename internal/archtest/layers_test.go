// Package archtest keeps the layers of docs/architecture.md true.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tinefn/tine"

// row is a layer: its packages import only packages of lower rows, and parents
// of their own, such as internal/store for internal/store/sqlstore.
type row struct {
	packages []string // relative to the module; one that ends in /... with all below
	reason   string   // what goes wrong if a package of the row imports from above
}

// rows are the layers from the bottom. A new package needs a place here.
var rows = []row{
	{[]string{"model", "invoke", "definition", "internal/durable"}, "everything imports these, so they know nothing but the standard library"},
	{[]string{"driver"}, "the engine seam is for engines outside this repository too, so it drags nothing in"},
	{[]string{"internal/osthread", "internal/hangup", "internal/sockio"}, "what the operating system lacks or hides is nobody's in particular"},
	{
		[]string{"internal/store/...", "definition/definitiontest", "driver/...", "internal/capacity", "internal/sockdir", "internal/image/...", "internal/imageaccess", "internal/imageclean", "internal/http1", "internal/breaker", "internal/syslog", "internal/cgroupfs", "client"},
		"databases, engines and arithmetic are plug-ins: who uses them may change, they do not",
	},
	{[]string{"internal/catalog", "internal/pool"}, "policy knows neither wire nor engine, so that it can be tested with neither"},
	{[]string{"internal/runner", "internal/edge", "internal/placement", "internal/forward"}, "executing a call does not depend on how it arrived"},
	{[]string{"internal/gateway", "internal/httpapi", "internal/runnerrpc/..."}, "the wire does not know which parts a node has"},
	{[]string{"internal/metrics"}, "what is observed does not know who counts"},
	{[]string{"node"}, "the composition can be embedded, so it does not depend on a program"},
	{[]string{"cmd/...", "examples/..."}, "programs are not imported"},
	{[]string{"test/...", "internal/archtest"}, "what the project ships does not contain what tests it"},
}

// sameRow are imports within a row that hold: a package that defines terms for
// another of the same level.
var sameRow = map[[2]string]string{
	{"internal/runnerrpc", "internal/runnerrpc/runnerpb"}: "what is generated is of no use to others",
	{"internal/runnerrpc", "internal/runnerrpc/direct"}:   "a package is made of such parts",
	{"invoke", "model"}:     "the seam is made of the nouns",
	{"definition", "model"}: "likewise",
	{"definition/definitiontest", "internal/store/storetest"}: "the suite is the same, under a name that others can import",
	{"driver/docker", "driver/prefork"}:                       "the pool is a part of drivers, apart from them so that it can be tested without an engine",
	{"driver/native", "driver/prefork"}:                       "likewise",
	{"driver/docker", "internal/imageaccess"}:                 "who may use an image does not depend on who keeps it",
	{"driver/native", "internal/imageaccess"}:                 "likewise",
	{"driver/docker", "internal/imageclean"}:                  "likewise",
	{"driver/native", "internal/imageclean"}:                  "likewise",
	{"driver/native", "internal/image"}:                       "a driver is made of such parts",
	{"driver/native", "internal/image/registry"}:              "likewise",
	{"driver/native", "driver/native/job"}:                    "likewise",
	{"driver/native", "driver/native/sandbox"}:                "likewise",
	{"driver/native", "driver/native/cgroup"}:                 "likewise",
	{"driver/native", "driver/native/network"}:                "likewise",
	{"driver/native", "driver/native/seccomp"}:                "likewise",
	{"driver/native/sandbox", "driver/native/job"}:            "the job is what both sides of a sandbox agree on",
	{"driver/native/sandboxinit", "driver/native/job"}:        "likewise",
	{"driver/docker", "internal/cgroupfs"}:                    "containers are frozen in the same way by all drivers",
	{"driver/native/cgroup", "internal/cgroupfs"}:             "containers are frozen in the same way by all drivers",
}

// aside are beside the layers: only the composition and programs give their
// values to components, which therefore can be tested and embedded without.
var (
	aside      = []string{"internal/config/...", "internal/telemetry"}
	asideUsers = []string{"node", "cmd/..."}
)

// standardLibraryOnly are packages that add no dependency to who imports them.
var standardLibraryOnly = []string{"model", "invoke", "definition", "driver", "internal/durable", "client"}

// goPackage is what go list tells about a package.
type goPackage struct {
	ImportPath string
	Imports    []string
	Export     string // file with its compiled types
	Standard   bool
	Error      *struct{ Err string }
}

// relative is the path below the module.
func (p goPackage) relative() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-e"}, args...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// isOneOf reports whether a package is covered by one of the patterns.
func isOneOf(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		parent, isTree := strings.CutSuffix(pattern, "/...")
		return pkg == pattern || isTree && (pkg == parent || strings.HasPrefix(pkg, parent+"/"))
	})
}

// rowOf returns the number of a package's row, the lowest that names it.
func rowOf(pkg string) int {
	return slices.IndexFunc(rows, func(r row) bool { return isOneOf(pkg, r.packages) })
}

// violation says what is wrong with an import between packages of the module,
// or nothing.
func violation(from, to string) string {
	switch {
	case isOneOf(to, aside):
		if isOneOf(from, asideUsers) || isOneOf(from, aside) || rowOf(from) == len(rows)-1 {
			return ""
		}
		return "components get values, not settings or telemetry: only " + strings.Join(asideUsers, " and ") + " import it"
	case isOneOf(from, aside):
		return "packages beside the layers import no layer"
	case sameRow[[2]string{from, to}] != "", strings.HasPrefix(from, to+"/"):
		return ""
	case rowOf(from) == len(rows)-1 && rowOf(to) == rowOf(from):
		return "" // tests share their tools
	case rowOf(to) >= rowOf(from):
		return rows[rowOf(from)].reason
	}
	return ""
}

func TestImportsGoDownwards(t *testing.T) {
	for _, p := range goList(t, "-json=ImportPath,Imports,Error", "./...") {
		from := p.relative()
		if p.Error != nil && len(p.Imports) == 0 {
			t.Errorf("%s cannot be read: %s", from, p.Error.Err)
			continue
		}
		if rowOf(from) < 0 && !isOneOf(from, aside) {
			t.Errorf("%s has no place in the layers: find one for it here and in docs/architecture.md", from)
			continue
		}
		for _, path := range p.Imports {
			to, inside := strings.CutPrefix(path, module+"/")
			host, _, _ := strings.Cut(path, "/")
			if !inside {
				if isOneOf(from, standardLibraryOnly) && strings.Contains(host, ".") {
					t.Errorf("%s imports %s: only the standard library is allowed there", from, path)
				}
				continue
			}
			if rowOf(to) < 0 && !isOneOf(to, aside) {
				continue // reported as the package itself
			}
			if reason := violation(from, to); reason != "" {
				t.Errorf("%s imports %s: %s", from, to, reason)
			}
		}
	}
}

// The rules themselves, on packages that need not exist.
func TestViolations(t *testing.T) {
	tests := []struct {
		from, to string
		wrong    bool
	}{
		{"invoke", "model", false},
		{"model", "invoke", true},
		{"driver/docker", "driver", false},
		{"driver", "driver/docker", true},
		{"driver/docker", "driver/fake", true},
		{"internal/store/sqlstore", "internal/store", false},
		{"internal/store", "internal/store/sqlstore", true},
		{"internal/pool", "internal/capacity", false},
		{"internal/pool", "driver", false},
		{"internal/pool", "internal/catalog", true},
		{"internal/pool", "internal/runner", true},
		{"internal/gateway", "internal/httpapi", true},
		{"internal/pool", "internal/config", true},
		{"internal/config/gendocs", "internal/config", false},
		{"internal/config", "model", true},
		{"node", "internal/config", false},
		{"node", "cmd/fnserver", true},
		{"cmd/fnserver", "node", false},
		{"cmd/fnserver", "test/image", true},
		{"test/e2e", "test/image", false},
	}
	for _, test := range tests {
		if got := violation(test.from, test.to); (got != "") != test.wrong {
			t.Errorf("%s imports %s: got %q", test.from, test.to, got)
		}
	}
}
