package archtest

import (
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"strings"
	"testing"
)

// publicPackages are for programs outside this repository. Those cannot name
// types of internal packages, so no exported signature may have one.
var publicPackages = []string{"model", "invoke", "definition/...", "driver/...", "node", "client"}

func TestPublicSignaturesHaveNoInternalTypes(t *testing.T) {
	exports := map[string]string{}
	var public []string
	for _, p := range goList(t, "-export", "-deps", "-json=ImportPath,Export,Error", "./...") {
		exports[p.ImportPath] = p.Export
		if strings.HasPrefix(p.ImportPath, module+"/") && isOneOf(p.relative(), publicPackages) {
			if p.Export == "" {
				t.Errorf("%s does not compile", p.relative())
				continue
			}
			public = append(public, p.ImportPath)
		}
	}
	imports := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, path := range public {
		pkg, err := imports.Import(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for place, name := range internalTypes(pkg) {
			t.Errorf("%s.%s mentions %s, which programs outside cannot name", strings.TrimPrefix(path, module+"/"), place, name)
		}
	}
}

// The finder itself, on a package that does everything wrong.
func TestInternalTypesAreFound(t *testing.T) {
	secret := types.NewPackage(module+"/internal/secret", "secret")
	hidden := types.NewNamed(types.NewTypeName(token.NoPos, secret, "Hidden", nil), types.NewStruct(nil, nil), nil)
	pkg := types.NewPackage(module+"/public", "public")
	field := func(name string, typ types.Type) *types.Struct {
		return types.NewStruct([]*types.Var{types.NewField(token.NoPos, pkg, name, typ, false)}, nil)
	}
	declare := func(name string, typ types.Type) {
		object := types.NewTypeName(token.NoPos, pkg, name, nil)
		types.NewNamed(object, typ, nil)
		pkg.Scope().Insert(object)
	}
	declare("Open", field("Value", types.NewPointer(types.NewSlice(hidden))))
	declare("Closed", field("value", hidden))
	returns := types.NewSignatureType(nil, nil, nil, nil, types.NewTuple(types.NewParam(token.NoPos, pkg, "", types.NewMap(types.Typ[types.String], hidden))), false)
	pkg.Scope().Insert(types.NewFunc(token.NoPos, pkg, "Make", returns))
	pkg.Scope().Insert(types.NewFunc(token.NoPos, pkg, "make", returns))
	pkg.Scope().Insert(types.NewVar(token.NoPos, pkg, "Default", types.NewChan(types.SendRecv, hidden)))

	got := internalTypes(pkg)
	for _, want := range []string{"Open", "Make", "Default"} {
		if got[want] != module+"/internal/secret.Hidden" {
			t.Errorf("%s: got %q", want, got[want])
		}
		delete(got, want)
	}
	if len(got) != 0 {
		t.Errorf("found where nothing is: %v", got)
	}
}

// internalTypes returns, for each exported name of a package, or name.method,
// an internal type that it shows.
func internalTypes(pkg *types.Package) map[string]string {
	found := map[string]string{}
	for _, name := range pkg.Scope().Names() {
		object := pkg.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		s := shown{seen: map[types.Type]bool{}}
		s.walk(object.Type())
		if named, ok := types.Unalias(object.Type()).(*types.Named); ok && named.Obj().Pkg() == pkg {
			s.walk(named.Underlying())
			for method := range named.Methods() {
				if method.Exported() {
					s.walk(method.Type())
				}
			}
		}
		if s.internal != "" {
			found[name] = s.internal
		}
	}
	return found
}

// shown looks for an internal type among those that a type shows. It does not
// go into other named types: those of this package are names of their own.
type shown struct {
	seen     map[types.Type]bool
	internal string
}

func (s *shown) walk(t types.Type) {
	if s.seen[t] {
		return
	}
	s.seen[t] = true
	switch t := t.(type) {
	case *types.Alias:
		s.walk(types.Unalias(t))
	case *types.Named:
		if pkg := t.Obj().Pkg(); pkg != nil && strings.HasPrefix(pkg.Path(), module+"/internal/") {
			s.internal = pkg.Path() + "." + t.Obj().Name()
		}
		for argument := range t.TypeArgs().Types() {
			s.walk(argument)
		}
	case *types.Struct:
		for field := range t.Fields() {
			if field.Exported() {
				s.walk(field.Type())
			}
		}
	case *types.Interface:
		for method := range t.Methods() {
			s.walk(method.Type())
		}
	case *types.Signature:
		for _, tuple := range []*types.Tuple{t.Params(), t.Results()} {
			for parameter := range tuple.Variables() {
				s.walk(parameter.Type())
			}
		}
		for parameter := range t.TypeParams().TypeParams() {
			s.walk(parameter.Constraint())
		}
	case *types.Map:
		s.walk(t.Key())
		s.walk(t.Elem())
	case interface{ Elem() types.Type }: // pointers, slices, arrays, channels
		s.walk(t.Elem())
	}
}
