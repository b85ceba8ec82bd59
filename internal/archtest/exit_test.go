package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// exits are functions that end the process. A node can be embedded, so only
// programs may do that.
var exits = []string{"os.Exit", "syscall.Exit", "unix.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln"}

// mayExit reports whether a file belongs to a program.
func mayExit(path string) bool {
	return strings.HasPrefix(path, "cmd/") || strings.HasPrefix(path, "test/") || strings.HasPrefix(path, "examples/") ||
		strings.HasPrefix(path, "driver/native/sandboxinit/") || // the first process of a sandbox
		strings.HasPrefix(path, "internal/config/gendocs/") || strings.HasPrefix(path, "driver/native/seccomp/gensyscalls/")
}

func TestOnlyProgramsExit(t *testing.T) {
	root := os.DirFS("../..")
	seen := 0
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && strings.HasPrefix(entry.Name(), "."), entry.IsDir() && entry.Name() == "testdata":
			return fs.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || mayExit(path):
			return nil
		}
		source, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		seen++
		for _, call := range exitsIn(t, path, source) {
			t.Errorf("%s: only programs end the process, others return an error", call)
		}
		return nil
	})
	if err != nil || seen < 50 {
		t.Errorf("%d files, %v", seen, err)
	}
}

// exitsIn finds the calls of such functions, by the usual names of packages.
func exitsIn(t *testing.T, name string, source []byte) (places []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return nil
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if pkg, ok := selector.X.(*ast.Ident); ok {
				if call := pkg.Name + "." + selector.Sel.Name; slices.Contains(exits, call) {
					places = append(places, files.Position(n.Pos()).String()+" "+call)
				}
			}
		}
		return true
	})
	return places
}

// The finder itself.
func TestExitsAreFound(t *testing.T) {
	const source = "package p\nfunc f() { os.Exit(1) }\nvar fail = log.Fatalf\nfunc g() { os.Open(``) }\n"
	if got := exitsIn(t, "p.go", []byte(source)); len(got) != 2 || got[0] != "p.go:2:12 os.Exit" {
		t.Errorf("got %q", got)
	}
}
