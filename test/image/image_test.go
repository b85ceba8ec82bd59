package image

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/moby/moby/client"
)

func TestBuildIsSkippedForKnownContent(t *testing.T) {
	NeedEngine(t)
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	const tag = "tine-test/image-build:1"
	var built []string
	t.Cleanup(func() {
		for _, name := range built {
			// The test's context is over; a failed removal leaves a few bytes.
			_, _ = engine.ImageRemove(context.WithoutCancel(t.Context()), name, client.ImageRemoveOptions{Force: true, PruneChildren: true})
		}
	})
	id := func(content string) string {
		t.Helper()
		if err := Build(t.Context(), tag, map[string][]byte{"Dockerfile": []byte("FROM scratch\nCOPY a /a\n"), "a": []byte(content)}); err != nil {
			t.Fatal(err)
		}
		known, err := engine.ImageInspect(t.Context(), tag)
		if err != nil {
			t.Fatal(err)
		}
		built = append(built, known.ID)
		return known.ID
	}
	first, second, changed := id("1"), id("1"), id("2")
	if first != second {
		t.Errorf("the same content was built twice: %s, %s", first, second)
	}
	if first == changed {
		t.Error("changed content was not built")
	}
}

func TestBuildReportsTheBuildersError(t *testing.T) {
	NeedEngine(t)
	err := Build(t.Context(), "tine-test/image-broken:1", map[string][]byte{"Dockerfile": []byte("FROM scratch\nCOPY absent /a\n")})
	if err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("got %v", err)
	}
}

func TestCompileReportsTheCompilersError(t *testing.T) {
	_, err := Compile(t.Context(), t.TempDir(), "./absent")
	if err == nil || !strings.Contains(err.Error(), "compile ./absent") {
		t.Errorf("got %v", err)
	}
}

func TestTestFnImageIsBuiltOnce(t *testing.T) {
	first := TestFn(t)
	if again := TestFn(t); again != first {
		t.Errorf("images %s and %s of one function", first, again)
	}
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	known, err := engine.ImageInspect(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if got := known.Config.WorkingDir; got != "/function" {
		t.Errorf("working directory %q", got)
	}
}

func TestFollowFindsTheErrorInTheStream(t *testing.T) {
	tests := map[string]struct{ stream, want string }{
		"success": {stream: `{"stream":"Step 1"}{"aux":{"ID":"x"}}`},
		"failure": {stream: `{"stream":"Step 1"}{"errorDetail":{"message":"no such file"},"error":"no such file"}`, want: "no such file"},
		"cut off": {stream: `{"stream":`, want: "unexpected EOF"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := follow(io.NopCloser(strings.NewReader(tt.stream))); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
