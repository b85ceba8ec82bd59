package model

import (
	"encoding/json"
	"errors"
	"regexp"
)

// AnnotationRuntime is the key by which a function, or an app for all of its
// functions, asks for an OCI runtime by the name that the container engine has
// for it, such as "runsc". Which ones may be had is the node's to say.
const AnnotationRuntime = "tine/runtime"

// RuntimeOf returns what the annotations of a function and its app ask for, the
// function's own before the app's; empty if nothing. What cannot be read asks
// for nothing: it is refused where definitions are written.
func RuntimeOf(app, fn Annotations) string {
	for _, annotations := range []Annotations{fn, app} {
		if value, ok := annotations[AnnotationRuntime]; ok {
			if name, err := readRuntime(value); err == nil {
				return name
			}
		}
	}
	return ""
}

// validateRuntime checks the value of the annotation; all others pass.
func validateRuntime(key string, value json.RawMessage) error {
	if key != AnnotationRuntime {
		return nil
	}
	if _, err := readRuntime(value); err != nil {
		return Errorf(ErrAnnotationValue, "Invalid annotation value of %s, %v", key, err)
	}
	return nil
}

// runtimeName is what engines accept, of a length that is enough for all.
var runtimeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func readRuntime(value json.RawMessage) (string, error) {
	var name string
	if json.Unmarshal(value, &name) != nil || !runtimeName.MatchString(name) {
		return "", errors.New(`it must be the name of a container runtime such as "runc", of at most 128 letters, digits and ._-`)
	}
	return name, nil
}
