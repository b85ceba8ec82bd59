// Package deploy checks what deploy/ consists of: that a server would start with those
// settings, and that nothing in it contradicts another part.
package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/internal/config"
)

const dir = "../../deploy"

// load reads settings as a server does that is started with them.
func load(t *testing.T, environ []string) *config.Config {
	t.Helper()
	loaded, warnings, err := config.Load(environ, os.ReadFile, "/")
	if err != nil {
		t.Fatalf("%q: %v", environ, err)
	}
	for _, text := range warnings {
		t.Errorf("%q: %s", environ, text)
	}
	return loaded
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// unit is a unit of systemd: the values of each key, in order, as section.key.
type unit map[string][]string

func parseUnit(t *testing.T, text []byte) unit {
	t.Helper()
	u, section := unit{}, ""
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		key, value, assigns := strings.Cut(line, "=")
		switch {
		case line == "", line[0] == '#':
		case line[0] == '[' && line[len(line)-1] == ']':
			section = line[1 : len(line)-1]
		case section != "" && assigns:
			u[section+"."+key] = append(u[section+"."+key], value)
		default:
			t.Fatalf("line %q", line)
		}
	}
	return u
}

func (u unit) one(t *testing.T, key string) string {
	t.Helper()
	if len(u[key]) != 1 {
		t.Fatalf("%s is %q", key, u[key])
	}
	return u[key][0]
}

// variables are those of a file that EnvironmentFile names.
func variables(text []byte) (environ []string) {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			environ = append(environ, string(line))
		}
	}
	return environ
}

func TestUnits(t *testing.T) {
	for name, kind := range map[string]string{"api": "api", "lb": "lb", "runner": "pure-runner"} {
		t.Run(name, func(t *testing.T) {
			u := parseUnit(t, read(t, "systemd/tine-"+name+".service"))
			environ := append(u["Service.Environment"], variables(read(t, "systemd/"+name+".env"))...)
			c := load(t, environ)
			if c.NodeType != kind {
				t.Errorf("it is a node of type %q", c.NodeType)
			}
			if file := strings.TrimPrefix(u.one(t, "Service.EnvironmentFile"), "-"); file != "/etc/tine/"+name+".env" {
				t.Errorf("it reads %s", file)
			}
			if name != "lb" { // which cannot know where the others are
				load(t, u["Service.Environment"])
			}
			patience, err := time.ParseDuration(u.one(t, "Service.TimeoutStopSec") + "s")
			if err != nil || patience < c.ShutdownTimeout+10*time.Second {
				t.Errorf("systemd kills it after %v (%v), and its own deadline is %v", patience, err, c.ShutdownTimeout)
			}
			if got := u.one(t, "Service.ExecStart"); got != "/usr/local/bin/fnserver" {
				t.Errorf("it executes %s", got)
			}
			if runs := name == "runner"; runs != slices.Equal(u["Service.Delegate"], []string{"yes"}) || runs == slices.Equal(u["Service.DynamicUser"], []string{"yes"}) {
				t.Error("who executes functions is root and has control groups, and nobody else is")
			}
		})
	}
}

// TestUnitsAreValid asks systemd. It looks for the program, which is put in its place.
func TestUnitsAreValid(t *testing.T) {
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here")
	}
	work := t.TempDir()
	for _, name := range []string{"api", "lb", "runner"} {
		text := bytes.ReplaceAll(read(t, "systemd/tine-"+name+".service"), []byte("/usr/local/bin/fnserver"), []byte("/bin/true"))
		file := filepath.Join(work, "tine-"+name+".service")
		if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // units are for everybody
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), program, "verify", "--man=no", "--recursive-errors=no", file).CombinedOutput()
		if err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	// The finder itself.
	wrong := filepath.Join(work, "wrong.service")
	if err := os.WriteFile(wrong, []byte("[Service]\nExecStart=/bin/true\nDelegat=yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "verify", "--man=no", "--recursive-errors=no", wrong).CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed && !bytes.Contains(out, []byte("Delegat")) {
		t.Errorf("a unit that is wrong: %v\n%s", err, out)
	}
}
