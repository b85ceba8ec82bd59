package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// fileSuffix makes of a variable's name that of the one that names a file with
// the value.
const fileSuffix = "_FILE"

// Load reads the settings from environment variables, given as NAME=value.
// readFile reads the files that variables with _FILE at the end name; dir is
// what the default of the database is relative to.
//
// The error lists all wrong settings, one in a line. The warnings are for the
// log.
func Load(environ []string, readFile func(string) ([]byte, error), dir string) (*Config, []string, error) {
	given := map[string]string{}
	for _, variable := range environ {
		if name, value, ok := strings.Cut(variable, "="); ok {
			given[name] = value
		}
	}
	c := &Config{}
	var warnings []string
	var wrong []error
	for _, s := range settings {
		err := s.load(c, given, readFile)
		if w, ok := errors.AsType[warning](err); ok {
			warnings = append(warnings, w.Error())
		} else if err != nil {
			wrong = append(wrong, err)
		}
	}
	if c.Store.URL == "" {
		c.Store.URL = SecretURL("sqlite3://" + dir + "/data/fn.db")
	}
	warnings = append(warnings, oddNames(given)...)
	if len(wrong) > 0 {
		return nil, warnings, errors.Join(wrong...)
	}
	return c, warnings, nil
}

// load sets the default, and what is given on top of it.
func (s Setting) load(c *Config, given map[string]string, readFile func(string) ([]byte, error)) error {
	if s.Default != "" {
		if err := s.parse(c, s.Default); err != nil {
			return s.explain(s.Default, err)
		}
	}
	value, isSet := given[s.Name]
	if path := given[s.Name+fileSuffix]; !isSet && path != "" {
		content, err := readFile(path)
		if err != nil {
			return s.explain(path, fmt.Errorf("%s%s cannot be read: %w", s.Name, fileSuffix, err))
		}
		value = string(content)
	}
	value = strings.TrimSpace(value)
	if value == "" {
		return nil
	}
	if err := s.parse(c, value); err != nil {
		return s.explain(value, err)
	}
	return nil
}

// explain says which setting is wrong, why, and what would be right. A warning
// stays one.
func (s Setting) explain(value string, err error) error {
	text := fmt.Sprintf("%s=%q: ", s.Name, value)
	expected := "; expected " + s.Form
	if s.Default != "" {
		expected += fmt.Sprintf(" (default %s)", s.Default)
	}
	if w, ok := errors.AsType[warning](err); ok {
		return warning{fmt.Errorf("%s%w%s", text, w.error, expected)}
	}
	return fmt.Errorf("%s%w%s", text, err, expected)
}

// oddNames warns about variables that look like settings and are none.
func oddNames(given map[string]string) []string {
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		base := strings.TrimSuffix(name, fileSuffix)
		isSetting := slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == base })
		if !strings.HasPrefix(name, "FN_") || isSetting {
			continue
		}
		if reason, ok := notYet[base]; ok {
			warnings = append(warnings, name+" has no effect: "+reason)
			continue
		}
		text := name + " is not a setting"
		if suggestion := nearest(base); suggestion != "" {
			text += ", did you mean " + suggestion + "?"
		}
		warnings = append(warnings, text)
	}
	return warnings
}

// nearest returns the setting that a name is probably a misspelling of, or
// nothing.
func nearest(name string) string {
	best, least := "", max(2, len(name)/5)+1
	for _, s := range settings {
		if d := distance(name, s.Name); d < least {
			best, least = s.Name, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove or replace to make b
// from a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
