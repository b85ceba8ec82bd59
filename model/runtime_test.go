package model

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestRuntimeOfAnnotations(t *testing.T) {
	for _, test := range []struct{ name, app, fn, want string }{
		{"nothing is said", `{}`, `{}`, ""},
		{"the app speaks for its functions", `{"tine/runtime":"runsc"}`, `{}`, "runsc"},
		{"the function's word counts", `{"tine/runtime":"runsc"}`, `{"tine/runtime":"io.containerd.kata.v2"}`, "io.containerd.kata.v2"},
		{"what cannot be read says nothing", `{"tine/runtime":"runsc"}`, `{"tine/runtime":7}`, "runsc"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var app, fn Annotations
			if err := errors.Join(json.Unmarshal([]byte(test.app), &app), json.Unmarshal([]byte(test.fn), &fn)); err != nil {
				t.Fatal(err)
			}
			if got := RuntimeOf(app, fn); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestUnreadableRuntimeIsRefused(t *testing.T) {
	long := `"` + strings.Repeat("x", 129) + `"`
	for value, ok := range map[string]bool{
		`"runc"`: true, `"io.containerd.runc.v2"`: true, `7`: false, `["runc"]`: false, `{"name":"runc"}`: false,
		`"two words"`: false, `"../runc"`: false, `"/usr/bin/runc"`: false, `"-runc"`: false, long: false,
	} {
		err := Annotations{AnnotationRuntime: json.RawMessage(value)}.Validate()
		if ok && err != nil || !ok && (!errors.Is(err, ErrAnnotationValue) || !strings.Contains(err.Error(), AnnotationRuntime)) {
			t.Errorf("%s: got %v", value, err)
		}
	}
}
