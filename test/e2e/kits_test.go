package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tinefn/tine/test/functions"
)

// languages are those of the kits, with what a caller sees of an error in the user's
// code: Go's panics end the connection, the others answer.
var languages = []struct {
	language functions.Language
	failure  string
}{
	{functions.Go, "error receiving function response"},
	{functions.Node, "function failed"},
	{functions.Python, "function failed"},
}

// kitMemoryMiB is enough for each language.
const kitMemoryMiB = 128

// eachDriver runs a test on a node of each driver.
func eachDriver(t *testing.T, settings map[string]string, test func(t *testing.T, n *node)) {
	t.Run("docker", func(t *testing.T) { test(t, startNode(t, settings)) })
	t.Run("native", func(t *testing.T) { test(t, startNative(t, settings)) })
}

// kitAnswer is what the kits' test function answers.
type kitAnswer struct{ Language, Echo, CallID, Method, URL, Client string }

func (got answer) kit(t *testing.T) (a kitAnswer) {
	t.Helper()
	if err := json.Unmarshal([]byte(got.body), &a); err != nil {
		t.Errorf("got %d %q: %v", got.status, got.body, err)
	}
	return a
}

// TestFunctionKitsRunUnchanged runs functions of real kits, the same images with each
// driver.
func TestFunctionKitsRunUnchanged(t *testing.T) {
	eachDriver(t, nil, func(t *testing.T, n *node) {
		for _, tt := range languages {
			t.Run(string(tt.language), func(t *testing.T) {
				image := functions.Kit(t, tt.language)
				id := n.fn(object{
					"image": image, "memory": kitMemoryMiB, "timeout": 2,
					"config": object{"FN_LOGFRAME_NAME": "frame", "FN_LOGFRAME_HDR": "Fn-Call-Id"},
				})
				wantEcho := func(text string) {
					t.Helper()
					got := n.invoke(id, `{"echo":"`+text+`"}`, map[string]string{"Content-Type": "application/json"})
					want := kitAnswer{Language: string(tt.language), Echo: text, CallID: got.header.Get("Fn-Call-Id")}
					if a := got.kit(t); a != want || got.status != 200 || got.header.Get("X-Language") != want.Language {
						t.Errorf("got %d %+v, header %v", got.status, a, got.header)
					}
				}
				wantEcho("first")
				wantEcho("größer")

				path := n.trigger(id, "/kit-"+string(tt.language))
				got := n.send("PUT", path+"?a=b", `{"status":418,"echo":"e"}`, map[string]string{"Content-Type": "application/json", "X-Client": "c"})
				a := got.kit(t)
				if got.status != 418 || got.header.Get("X-Language") != string(tt.language) || got.header.Get("Fn-Http-Status") != "" {
					t.Errorf("got %d, header %v", got.status, got.header)
				}
				if a.Echo != "e" || a.Method != "PUT" || !strings.HasSuffix(a.URL, path+"?a=b") || a.Client != "c" {
					t.Errorf("the function saw %+v", a)
				}

				n.invoke(id, `{"fail":true}`, nil).wantError(t, 502, tt.failure)
				wantEcho("after the error")

				if got := n.invoke(id, `{"sleepMs":20000}`, nil); got.status != 504 {
					t.Errorf("got %d %s", got.status, got.body)
				}
				wantEcho("after the timeout")

				got = n.invoke(id, `{"print":"printed by `+string(tt.language)+`"}`, nil)
				for _, line := range []string{"printed by " + string(tt.language), "frame=" + got.header.Get("Fn-Call-Id")} {
					n.awaitLog(t, func(log string) bool { return strings.Contains(log, line) })
				}
			})
		}
		n.stopClean(t)
	})
}

func TestExamplesGreet(t *testing.T) {
	eachDriver(t, nil, func(t *testing.T, n *node) {
		for _, tt := range languages {
			t.Run(string(tt.language), func(t *testing.T) {
				id := n.fn(object{"image": functions.Example(t, tt.language), "memory": kitMemoryMiB})
				for body, want := range map[string]string{`{"name":"Ada"}`: "Hello Ada", "": "Hello World", "none": "Hello World", `{}`: "Hello World"} {
					got := n.invoke(id, body, nil)
					var answer struct{ Message string }
					if err := json.Unmarshal([]byte(got.body), &answer); err != nil || got.status != 200 || answer.Message != want {
						t.Errorf("%q: got %d %q, want %q", body, got.status, got.body, want)
					}
				}
			})
		}
		n.stopClean(t)
	})
}
