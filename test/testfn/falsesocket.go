package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// makeFalse makes something in the place of the socket that is none.
func makeFalse(kind, address string) error {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return fmt.Errorf("FN_LISTENER %q is not unix:<path>", address)
	}
	switch kind {
	case "pipe":
		return syscall.Mkfifo(path, 0o666)
	case "file":
		return os.WriteFile(path, nil, 0o600)
	case "directory":
		return os.Mkdir(path, 0o700)
	}
	return os.Symlink(kind, path)
}

// replaceSocket puts a link to Testfn-Target in the place of the socket that the
// call came by.
func replaceSocket(f *fn, w http.ResponseWriter, r *http.Request) {
	drain(r)
	path := strings.TrimPrefix(environment(f.environ)["FN_LISTENER"], "unix:")
	for _, name := range []string{path, filepath.Join(filepath.Dir(path), "phony"+filepath.Base(path))} {
		err := os.Remove(name)
		if err == nil {
			err = os.Symlink(parameter(r, "Testfn-Target"), name)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
	}
	begin(w, r)
}
