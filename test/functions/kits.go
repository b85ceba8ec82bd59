package functions

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/tinefn/tine/test/image"
)

// RequireKits is the value of the variable TINE_TEST_KITS with which tests that need a
// language fail when it is not installed. Otherwise they skip.
const RequireKits = "require"

// buildTimeout bounds a build, in which npm may ask its registry.
const buildTimeout = 3 * time.Minute

// Kit returns the name of an image of the test function in a language, on its function
// kit: of Fn for Go and Node; in Python, whose kit is in no registry that tests ask,
// on that of the example. It skips or fails a test that cannot have it.
//
// The function's input and output are JSON:
//
//	{"print": "text", "fail": true, "sleepMs": 1, "echo": "text", "status": 201}
//	{"language": "go", "echo": "text", "callID": "…", "method": "GET", "url": "…", "client": "…"}
//
// It prints, fails, sleeps and answers with what it was sent, in this order. The last
// three parts of the answer, of which client is the header X-Client of the request, and
// the status, are for HTTP triggers. The answer has a header X-Language.
func Kit(t testing.TB, in Language) string {
	t.Helper()
	return need(t, in, directory("test/functions/kit-"+string(in)))
}

// Example returns the name of an image of the example in a language, likewise. It
// answers {"name":"Ada"} with {"message":"Hello Ada"}.
func Example(t testing.TB, in Language) string {
	t.Helper()
	return need(t, in, ExampleDir(in))
}

// ExampleDir is where the example in a language is.
func ExampleDir(in Language) string { return directory("examples/hello-" + string(in)) }

func need(t testing.TB, in Language, dir string) string {
	t.Helper()
	image.NeedEngine(t)
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	ref, err := Load(ctx, in, dir)
	switch {
	case err == nil:
	case errors.Is(err, ErrMissing) && os.Getenv("TINE_TEST_KITS") != RequireKits:
		t.Skip(err)
	default:
		t.Fatal(err)
	}
	return ref
}

// directory is one of this repository, whatever directory the program runs in.
func directory(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", filepath.FromSlash(name))
}
