package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Load reads the settings from an environment as os.Environ gives it. For any
// variable X that is not set, X_FILE may name a file that holds the value.
// dir is the working directory, for defaults.
//
// All wrong settings are reported in one error. What is only odd, such as a
// variable that no setting has, is returned as warnings for the log.
func Load(environ []string, readFile func(name string) ([]byte, error), dir string) (*Config, []string, error) {
	env := make(map[string]string, len(environ))
	for _, variable := range environ {
		if name, value, ok := strings.Cut(variable, "="); ok {
			env[name] = value
		}
	}
	c := &Config{Runner: Runner{LogOutput: true}}
	c.Engine.Prefork = Prefork{Min: preforkMin, Max: PreforkAuto, Command: strings.Fields(preforkCommand)}
	if home := env["HOME"]; home != "" {
		c.Engine.ConfigDir = filepath.Join(home, ".docker")
	}
	data := filepath.Join(dir, "data")
	c.Store.URL = SecretURL("sqlite3://" + filepath.Join(data, "fn.db"))
	c.Engine.StateDir = data
	var warnings []string
	var errs []error
	for _, s := range settings {
		if s.Default != "" {
			if err := s.parse(c, s.Default); err != nil {
				return nil, nil, fmt.Errorf("default of %s: %w", s.Name, err)
			}
		}
		value, err := lookUp(env, readFile, s.Name)
		if err == nil && value != "" {
			err = s.parse(c, value)
		}
		if err == nil {
			continue
		}
		text := s.complaint(value, err)
		if errors.As(err, new(warning)) {
			warnings = append(warnings, text)
		} else {
			errs = append(errs, errors.New(text))
		}
	}
	return c, append(warnings, strangers(env)...), errors.Join(errs...)
}

// lookUp returns a variable's value, from the file that X_FILE names if X is
// not set. What a file holds is trimmed: editors end files with a newline.
func lookUp(env map[string]string, readFile func(string) ([]byte, error), name string) (string, error) {
	if value, given := env[name]; given {
		return value, nil
	}
	file, given := env[name+"_FILE"]
	if !given {
		return "", nil
	}
	content, err := readFile(file)
	if err != nil {
		return file, fmt.Errorf("%s_FILE cannot be read: %w", name, err)
	}
	return strings.TrimSpace(string(content)), nil
}

// complaint says what is wrong with a setting and what would be right.
func (s Setting) complaint(value string, err error) string {
	if masked, ok := errors.AsType[maskedError](err); ok {
		value = masked.shown
	}
	text := fmt.Sprintf("%s=%q: %v; expected %s", s.Name, value, err, s.Form)
	if s.Default != "" {
		text += fmt.Sprintf(" (default %s)", s.Default)
	}
	return text
}

// strangers warns of FN_ variables that no setting has.
func strangers(env map[string]string) []string {
	var warnings []string
	for name := range env {
		bare := strings.TrimSuffix(name, "_FILE")
		if !strings.HasPrefix(name, "FN_") || isSetting(name) || isSetting(bare) || slices.Contains(foreign, name) {
			continue
		}
		if reason, ok := notYet[bare]; ok {
			warnings = append(warnings, fmt.Sprintf("%s has no effect: %s", name, reason))
			continue
		}
		text := name + " is not a setting"
		if near := nearest(bare); near != "" {
			text += ", did you mean " + near + "?"
		}
		warnings = append(warnings, text)
	}
	slices.Sort(warnings)
	return warnings
}

func isSetting(name string) bool {
	return slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == name })
}

// maxTypos is how many letters may differ in a name that is suggested.
const maxTypos = 3

func nearest(name string) string {
	best, least := "", maxTypos+1
	for _, s := range settings {
		if d := editDistance(name, s.Name); d < least {
			best, least = s.Name, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions and replacements of single
// bytes that make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
