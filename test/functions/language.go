package functions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// language is how functions of a language are built on this machine.
type language struct {
	identity   string               // changes with whatever files returns
	files      func() (tree, error) // the interpreter; nil: there is none
	source     func(ctx context.Context, dir string) (source, error)
	entrypoint []string
	env        []string
}

// layout changes when images are built in another way from the same files.
const layout = "1"

// passwd is for programs that look themselves up.
const passwd = "root:x:0:0::/:/\nfn:x:1000:1000::/function:/\n"

// find looks for a language on the machine.
func find(ctx context.Context, in Language) (*language, error) {
	switch in {
	case Go:
		return &language{identity: layout + " go", source: goSource, entrypoint: []string{"/function/func"}}, nil
	case Node:
		return findNode(ctx)
	case Python:
		return findPython(ctx)
	}
	return nil, fmt.Errorf("there is no language %q", in)
}

func findNode(ctx context.Context) (*language, error) {
	program, err := lookUp("nodejs", "node")
	if err != nil {
		return nil, err
	}
	identity, err := identify(ctx, program)
	if err != nil {
		return nil, err
	}
	return &language{
		identity: identity, source: nodeSource, entrypoint: []string{"/usr/bin/node", "func.js"}, env: []string{"PATH=/usr/bin"},
		files: func() (tree, error) {
			files, err := interpreter(program, "usr/bin/node")
			if err != nil {
				return nil, err
			}
			// Parts of Debian's own node are files that others use too.
			for _, part := range []string{"acorn", "acorn-walk", "cjs-module-lexer", "undici"} {
				if err := files.addDir("/usr/share/nodejs/"+part, func(string) bool { return true }); err != nil {
					return nil, err
				}
			}
			return files, nil
		},
	}, nil
}

// pythonParts are of the standard library and no use for functions, or need libraries
// of desktops.
var pythonParts = regexp.MustCompile(`^(test|idlelib|tkinter|turtledemo|ensurepip|lib2to3|distutils|pydoc_data|config-.*|(site|dist)-packages|lib-dynload/(_test.*|_ctypes_test.*|_tkinter.*))(/|$)|\.opt-[12]\.pyc$|/tests?/`)

func findPython(ctx context.Context) (*language, error) {
	// What Debian installs, rather than what a user has put before it.
	program, err := lookUp("python3", "/usr/bin/python3", "python3")
	if err != nil {
		return nil, err
	}
	identity, err := identify(ctx, program)
	if err != nil {
		return nil, err
	}
	return &language{
		identity: identity, source: pythonSource, entrypoint: []string{"/usr/bin/python3", "func.py"},
		env: []string{"PATH=/usr/bin", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"},
		files: func() (tree, error) {
			library, err := exec.CommandContext(ctx, program, "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))").Output()
			if err != nil {
				return nil, fmt.Errorf("where Python's standard library is: %w", err)
			}
			files, err := interpreter(program, "usr/bin/python3")
			if err != nil {
				return nil, err
			}
			from := strings.TrimSpace(string(library))
			to := "usr/lib/" + filepath.Base(from)
			standard := tree{}
			if err := standard.addDir(from, func(name string) bool { return !pythonParts.MatchString(name) }); err != nil {
				return nil, err
			}
			for name, file := range standard {
				files[to+strings.TrimPrefix("/"+name, from)] = file
				if filepath.Ext(name) == ".so" {
					if err := files.addLibraries(file.path); err != nil {
						return nil, err
					}
				}
			}
			return files, nil
		},
	}, nil
}

// lookUp finds the first of some programs, as real file: what runs is copied.
func lookUp(pkg string, names ...string) (string, error) {
	for _, name := range names {
		if found, err := exec.LookPath(name); err == nil {
			return filepath.EvalSymlinks(found)
		}
	}
	return "", fmt.Errorf("%s is %w: apt-get install %s", names[len(names)-1], ErrMissing, pkg)
}

// identify tells programs apart.
func identify(ctx context.Context, program string) (string, error) {
	version, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("version of %s: %w", program, err)
	}
	info, err := os.Stat(program)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s %s %d %v", layout, runtime.GOARCH, bytes.TrimSpace(version), info.Size(), info.ModTime().UTC()), nil
}

// interpreter is a program with what it needs of a file system.
func interpreter(program, as string) (tree, error) {
	files := tree{as: {path: program, mode: 0o755}, "etc/passwd": {bytes: []byte(passwd), mode: 0o644}}
	return files, files.addLibraries(program)
}

// library is a line of ldd with a path: "libm.so.6 => /lib/…/libm.so.6 (0x…)", or the
// loader's, which has no arrow.
var library = regexp.MustCompile(`(?m)^\s+(?:\S+ => )?(/\S+) \(0x`)

// addLibraries adds the shared libraries of a program or library.
func (t tree) addLibraries(of string) error {
	output, err := exec.Command("ldd", of).CombinedOutput()
	if err != nil {
		return fmt.Errorf("libraries of %s: %w: %s", of, err, bytes.TrimSpace(output))
	}
	if i := bytes.Index(output, []byte("not found")); i >= 0 {
		return fmt.Errorf("libraries of %s: %s", of, output)
	}
	for _, found := range library.FindAllSubmatch(output, -1) {
		t.add(string(found[1]))
	}
	return nil
}

// addDir adds the files of a directory whose names in it are wanted. One that does not
// exist has none.
func (t tree) addDir(dir string, want func(name string) bool) error {
	return filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && file == dir {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(file, dir+"/")
		switch info, err := os.Stat(file); {
		case file != dir && !want(name):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case errors.Is(err, fs.ErrNotExist): // a link to nothing
		case err != nil:
			return err
		case info.Mode().IsRegular():
			t.add(file)
		}
		return nil
	})
}
