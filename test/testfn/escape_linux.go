package main

import (
	"io"
	"net/http"

	"github.com/tinefn/tine/test/testfn/escape"
)

func init() {
	modes["escape"] = escapeMode(escape.Answer)
	modes["bomb"] = escapeMode(escape.Explode)
	modes["facts"] = escapeMode(escape.Facts)
	modes["listen"] = escapeMode(escape.Listen)
}

func tryEscape(r io.Reader, w io.Writer) error { return escape.Answer(r, w) }

// escapeMode is a mode that is asked and answers in JSON.
func escapeMode(do func(io.Reader, io.Writer) error) func(*fn, http.ResponseWriter, *http.Request) {
	return func(_ *fn, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := do(r.Body, w); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	}
}
