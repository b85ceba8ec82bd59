package model

import (
	"maps"
	"slices"
	"strings"
)

// Config is what an app or a function passes to its containers as environment.
type Config map[string]string

// Merge returns c changed by patch: a non-empty value adds or replaces its key,
// an empty one deletes it, other keys stay. c itself is not changed.
func (c Config) Merge(patch Config) Config {
	if len(patch) == 0 {
		return maps.Clone(c)
	}
	merged := make(Config, len(c)+len(patch))
	maps.Copy(merged, c)
	for key, value := range patch {
		if value == "" {
			delete(merged, key)
		} else {
			merged[key] = value
		}
	}
	return merged
}

// Equal reports whether both hold the same pairs; nil equals empty.
func (c Config) Equal(other Config) bool { return maps.Equal(c, other) }

// Validate refuses what no process environment can carry. Everything else is
// the function's own affair. Of several failures it names the first key.
func (c Config) Validate() error {
	for _, key := range slices.Sorted(maps.Keys(c)) {
		if strings.ContainsRune(key, 0) || strings.ContainsRune(c[key], 0) {
			return Errorf(ErrInvalidText, "Invalid config, key %q or its value contains a NUL character", key)
		}
	}
	return nil
}
