package drivertest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tinefn/tine/driver"
)

// EscapeOptions say what is expected of a driver.
type EscapeOptions struct {
	// Fenced and Open are attempts that get through in containers that are
	// fenced in, and in those that are not (driver.Security without anything),
	// and why that is no escape: "Subject/variant" to a reason. A name that
	// ends in * is for all that begin like it. All others must be refused.
	Fenced, Open map[string]string

	// Exact says that what is in the lists does get through, on any machine.
	Exact bool
}

// escapeSubjects are what is tried. The test function knows how.
var escapeSubjects = []string{
	"HostFiles", "Descriptors", "Processes", "Sockets", "Devices", "Kernel", "RawSockets", "Mounts", "Namespaces", "Keyrings", "Cgroups", "ProcAndSys", "Network",
}

// escapeTargets is what the test function gets to know of what is outside. The
// fields are described there.
type escapeTargets struct {
	Subject   string              `json:"subject"`
	Marker    string              `json:"marker"`
	File      string              `json:"file"`
	Dir       string              `json:"dir"`
	Handle    []byte              `json:"handle"`
	Kind      int32               `json:"kind"`
	Device    uint64              `json:"device"`
	PID       int                 `json:"pid"`
	Key       int                 `json:"key"`
	Sockets   []string            `json:"sockets"`
	Abstract  string              `json:"abstract"`
	Addresses map[string][]string `json:"addresses"`
}

// escapeOutcome is what came of an attempt.
type escapeOutcome struct {
	Variant string `json:"variant"`
	Through bool   `json:"through"`
	Result  string `json:"result"`
}

// RunEscape tries to get out of containers, from inside, and to use up what they
// share with others. Whatever is tried must be refused, and nothing outside may
// have changed: a file, a process, a key, sockets that listen. It needs root and
// Images.Program must be the test function of this module.
func RunEscape(t *testing.T, newDriver func(t *testing.T) driver.Driver, images Images, opts EscapeOptions) {
	for name, profile := range map[string]struct {
		security driver.Security
		allowed  map[string]string
	}{
		"Fenced": {driver.Security{Unprivileged: true, ReadOnlyRoot: true, Init: true}, opts.Fenced},
		"Open":   {driver.Security{}, opts.Open},
	} {
		t.Run(name, func(t *testing.T) {
			s := &suite{T: t, images: images, newDriver: newDriver}
			tryEscapes(s, profile.security, profile.allowed, opts.Exact)
		})
	}
	t.Run("Bombs", func(t *testing.T) {
		explode(&suite{T: t, images: images, newDriver: newDriver})
	})
}

// tryEscapes tries all subjects in one container, beside another one.
func tryEscapes(s *suite, security driver.Security, allowed map[string]string, exact bool) {
	d := s.driver()
	startFn := func() string {
		dir := socketDir(s)
		spec := functionSpec(s, dir)
		spec.Security = security
		spec.Limits = driver.Limits{MemoryBytes: 256 << 20, Processes: 200, OpenFiles: 350}
		s.start(d, spec)
		awaitSocket(s, dir)
		return dir
	}
	inside, other := startFn(), startFn()
	out := newOutside(s, other)
	used := map[string]bool{}
	for _, subject := range escapeSubjects {
		s.Run(subject, func(t *testing.T) {
			on := &suite{T: t, images: s.images, newDriver: s.newDriver}
			targets := out.targets
			targets.Subject = subject
			order, err := json.Marshal(targets)
			on.must("say what to try", err)
			var outcomes []escapeOutcome
			on.must("understand what came of it", json.Unmarshal([]byte(call(on, inside, "escape", string(order))), &outcomes))
			if len(outcomes) == 0 {
				t.Error("nothing was tried")
			}
			for _, outcome := range outcomes {
				name := subject + "/" + outcome.Variant
				entry, isAllowed := allowance(allowed, name)
				switch {
				case outcome.Through && !isAllowed:
					t.Errorf("%s gets through: %s", outcome.Variant, outcome.Result)
				case outcome.Through:
					used[entry] = true
				}
			}
			out.check(on)
			if _, isAllowed := allowance(allowed, "Network/"); !isAllowed {
				out.checkListeners(on)
			}
		})
	}
	for entry := range allowed {
		switch {
		case used[entry] || s.Failed():
		case exact:
			s.Errorf("%s is refused: strike it off the list", entry)
		default:
			s.Logf("%s is allowed, and refused on this machine", entry)
		}
	}
}

// allowance finds the entry for an attempt. A name that ends in a slash is for any
// attempt of the subject.
func allowance(allowed map[string]string, name string) (entry string, ok bool) {
	for entry := range allowed {
		prefix, isPattern := strings.CutSuffix(entry, "*")
		if entry == name || isPattern && strings.HasPrefix(name, prefix) || strings.HasSuffix(name, "/") && strings.HasPrefix(entry, name) {
			return entry, true
		}
	}
	return "", false
}
