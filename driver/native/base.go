//go:build linux

package native

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// base are two layers that every container has: one below its image, with the
// directories that something is attached to, and one above it, with the files
// about names that are the machine's to say.
type base struct{ below, above string }

// baseDirs are directories that images need not have.
var baseDirs = []string{"dev", "proc", "sys", "tmp"}

// hosts are the names that every container knows. Its own is in none: it has no
// address that would be worth a name.
const hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"

func makeBase(dir string) (base, error) {
	b := base{filepath.Join(dir, "below"), filepath.Join(dir, "above")}
	for _, name := range baseDirs {
		if err := os.MkdirAll(filepath.Join(b.below, name), 0o755); err != nil {
			return b, fmt.Errorf("make the base of containers: %w", err)
		}
	}
	err := errors.Join(os.MkdirAll(filepath.Join(b.above, "etc"), 0o755), b.write("hosts", hosts))
	for _, layer := range []string{dir, b.below, b.above} {
		err = errors.Join(err, os.Chmod(layer, 0o755)) // the umask cut it
	}
	if err != nil {
		return b, fmt.Errorf("make the base of containers: %w", err)
	}
	return b, nil
}

// write gives one of the files in /etc its content, if it has another one: what is
// mounted must change as a whole.
func (b base) write(name, content string) error {
	path := filepath.Join(b.above, "etc", name)
	if old, err := os.ReadFile(path); err == nil && string(old) == content {
		return nil
	}
	aside := path + ".new"
	if err := os.WriteFile(aside, []byte(content), 0o644); err != nil { //nolint:gosec // every container reads it
		return err
	}
	return os.Rename(aside, path)
}

// layers puts the base around those of an image, the topmost first.
func (b base) layers(image []string) []string {
	all := append([]string{b.above}, image...)
	return append(all, b.below)
}
