package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Annotation keys by which a function, or an app for all of its functions,
// says how many instances there may be and how long one lives. Values are
// whole numbers; the age is a duration such as "30m", or whole seconds. Zero
// means no bound.
const (
	AnnotationMinInstances = "tine/min-instances"
	AnnotationMaxInstances = "tine/max-instances"
	AnnotationMaxCalls     = "tine/max-calls"
	AnnotationMaxAge       = "tine/max-age"
)

// Bounds of the values of these annotations, inclusive.
const (
	MaxScaleInstances = 10_000
	MaxScaleCalls     = 1_000_000_000
	MaxScaleAge       = 365 * 24 * time.Hour
)

// Scale bounds the instances of a function on one node. Zero means no bound.
type Scale struct {
	MinInstances int           // kept whether the function is called or not
	MaxInstances int           // at one time; where the minimum is larger, this one counts
	MaxCalls     int           // that one instance serves
	MaxAge       time.Duration // of one instance
}

// ScaleOf returns what the annotations of a function and its app say, over the
// defaults of the node. The function's own come before the app's. What cannot
// be read says nothing: it is refused where definitions are written.
func ScaleOf(app, fn Annotations, defaults Scale) Scale {
	scale := defaults
	for _, annotations := range []Annotations{app, fn} {
		for key, value := range annotations {
			if set, ok := scaleAnnotations[key]; ok {
				_ = set(&scale, value)
			}
		}
	}
	return scale
}

// scaleAnnotations are the readers of the annotations above. They leave the
// scale alone if they fail.
var scaleAnnotations = map[string]func(*Scale, json.RawMessage) error{
	AnnotationMinInstances: func(s *Scale, v json.RawMessage) error { return readNumber(v, &s.MinInstances, MaxScaleInstances) },
	AnnotationMaxInstances: func(s *Scale, v json.RawMessage) error { return readNumber(v, &s.MaxInstances, MaxScaleInstances) },
	AnnotationMaxCalls:     func(s *Scale, v json.RawMessage) error { return readNumber(v, &s.MaxCalls, MaxScaleCalls) },
	AnnotationMaxAge:       func(s *Scale, v json.RawMessage) error { return readAge(v, &s.MaxAge) },
}

// validateScale checks the value of an annotation that bounds instances; all
// others pass.
func validateScale(key string, value json.RawMessage) error {
	set, ok := scaleAnnotations[key]
	if !ok {
		return nil
	}
	if err := set(&Scale{}, value); err != nil {
		return Errorf(ErrAnnotationValue, "Invalid annotation value of %s, %v", key, err)
	}
	return nil
}

// readNumber accepts 5 and "5": command lines make text of everything.
func readNumber(value json.RawMessage, to *int, most int) error {
	text := string(value)
	if unquoted := ""; json.Unmarshal(value, &unquoted) == nil {
		text = unquoted
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return fmt.Errorf("it must be a whole number from 0 to %d", most)
	}
	*to = n
	return nil
}

var errAge = errors.New(`it must be a duration such as "90s", "30m" or "12h", or whole seconds, of a year at most`)

func readAge(value json.RawMessage, to *time.Duration) error {
	var seconds int
	if readNumber(value, &seconds, int(MaxScaleAge/time.Second)) == nil {
		*to = time.Duration(seconds) * time.Second
		return nil
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return errAge
	}
	age, err := time.ParseDuration(text)
	if err != nil || age < 0 || age > MaxScaleAge {
		return errAge
	}
	*to = age
	return nil
}
