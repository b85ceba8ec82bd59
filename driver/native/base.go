//go:build linux

package native

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/tinefn/tine/internal/durable"
)

// base are two layers that every container has: one below its image, with the
// directories that something is attached to, and one above it, with the files
// about names that are the machine's to say.
type base struct {
	below, above string

	mu          sync.Mutex // held while a file is written
	nameservers string     // content of resolv.conf
}

// baseDirs are directories that images need not have.
var baseDirs = []string{"dev", "proc", "sys", "tmp"}

// hosts are the names that every container knows. Its own is in none: it has no
// address that would be worth a name.
const hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"

func makeBase(dir string) (*base, error) {
	b := &base{below: filepath.Join(dir, "below"), above: filepath.Join(dir, "above")}
	for _, name := range baseDirs {
		if err := os.MkdirAll(filepath.Join(b.below, name), 0o755); err != nil {
			return nil, fmt.Errorf("make the base of containers: %w", err)
		}
	}
	err := errors.Join(os.MkdirAll(filepath.Join(b.above, "etc"), 0o755), b.write("hosts", hosts))
	for _, layer := range []string{dir, b.below, b.above} {
		err = errors.Join(err, os.Chmod(layer, 0o755)) // the umask cut it
	}
	if err != nil {
		return nil, fmt.Errorf("make the base of containers: %w", err)
	}
	return b, nil
}

// setNameservers sees to it that containers which are started from now on have
// that resolv.conf. It may be called at the same time, and nearly always has
// nothing to do.
func (b *base) setNameservers(content string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if content == b.nameservers {
		return nil
	}
	if err := b.write("resolv.conf", content); err != nil {
		return fmt.Errorf("write the nameservers of containers: %w", err)
	}
	b.nameservers = content
	return nil
}

// write gives one of the files in /etc its content, if it has another one: what is
// mounted must change as a whole.
func (b *base) write(name, content string) error {
	path := filepath.Join(b.above, "etc", name)
	if old, err := os.ReadFile(path); err == nil && string(old) == content {
		return nil
	}
	return durable.Replace(path, []byte(content), 0o644) // every container reads it
}

// layers puts the base around those of an image, the topmost first.
func (b *base) layers(image []string) []string {
	all := append([]string{b.above}, image...)
	return append(all, b.below)
}
