package functions

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tinefn/tine/test/image"
)

// source is a function's own part of its image.
type source struct {
	identity string // changes with whatever files returns
	files    func(ctx context.Context) (tree, error)
}

// goSource compiles a module of its own to a static program.
func goSource(ctx context.Context, dir string) (source, error) {
	program, err := image.Compile(ctx, dir, ".")
	if err != nil {
		return source{}, err
	}
	sum := sha256.Sum256(program)
	return source{
		identity: hex.EncodeToString(sum[:]),
		files: func(context.Context) (tree, error) {
			return tree{
				workDir + "/func": {bytes: program, mode: 0o755},
				"etc/passwd":      {bytes: []byte(passwd), mode: 0o644},
			}, nil
		},
	}, nil
}

// nodeSource is the function with the packages that its package-lock.json pins.
func nodeSource(_ context.Context, dir string) (source, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return source{}, fmt.Errorf("npm is %w: apt-get install npm", ErrMissing)
	}
	own, err := readSource(dir, ".js", ".json")
	if err != nil {
		return source{}, err
	}
	return source{identity: own.identity(), files: func(ctx context.Context) (files tree, err error) {
		work, err := os.MkdirTemp("", "tine-function-")
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
		for name, file := range own {
			if err := os.WriteFile(filepath.Join(work, filepath.Base(name)), file.bytes, 0o600); err != nil {
				return nil, err
			}
		}
		if err := run(ctx, work, nil, npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"); err != nil {
			return nil, err
		}
		files = maps.Clone(own)
		installed := tree{}
		if err := installed.addDir(filepath.Join(work, "node_modules"), func(name string) bool { return !strings.HasPrefix(name, ".") }); err != nil {
			return nil, err
		}
		for name, file := range installed {
			raw, err := os.ReadFile(file.path)
			if err != nil {
				return nil, err
			}
			files[workDir+strings.TrimPrefix("/"+name, work)] = content{bytes: raw, mode: 0o644}
		}
		return files, nil
	}}, nil
}

// pythonSource is the function alone: it has nothing but the standard library.
func pythonSource(_ context.Context, dir string) (source, error) {
	own, err := readSource(dir, ".py")
	if err != nil {
		return source{}, err
	}
	return source{identity: own.identity(), files: func(context.Context) (tree, error) { return own, nil }}, nil
}

// readSource reads the files of a directory that have one of some extensions.
func readSource(dir string, extensions ...string) (tree, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	own := tree{}
	for _, entry := range entries {
		if slices.Contains(extensions, filepath.Ext(entry.Name())) {
			raw, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			if err != nil {
				return nil, err
			}
			own[workDir+"/"+entry.Name()] = content{bytes: raw, mode: 0o644}
		}
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("it has no source: %w", fs.ErrNotExist)
	}
	return own, nil
}

// identity is the hash of a tree of bytes.
func (t tree) identity() string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(sum, "%q %d\n", name, len(t[name].bytes))
		sum.Write(t[name].bytes)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func run(ctx context.Context, dir string, environ []string, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = dir, append(os.Environ(), environ...)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(name), args[0], errors.Join(err, ctx.Err()), bytes.TrimSpace(output))
	}
	return nil
}
