package model

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestScaleOfAnnotations(t *testing.T) {
	defaults := Scale{MinInstances: 1, MaxInstances: 8, MaxCalls: 100, MaxAge: time.Hour}
	for _, test := range []struct {
		name    string
		app, fn string
		want    Scale
	}{
		{"nothing said", `{}`, `{}`, defaults},
		{"the app speaks for its functions", `{"tine/max-instances":2}`, `{}`, Scale{1, 2, 100, time.Hour}},
		{"the function's word counts", `{"tine/max-instances":2,"tine/max-age":"1m"}`, `{"tine/max-instances":5}`, Scale{1, 5, 100, time.Minute}},
		{"zero takes a bound away", `{}`, `{"tine/min-instances":0,"tine/max-instances":0,"tine/max-calls":0,"tine/max-age":0}`, Scale{}},
		{"text is a number too", `{}`, `{"tine/min-instances":"3","tine/max-age":"90"}`, Scale{3, 8, 100, 90 * time.Second}},
		{"what cannot be read says nothing", `{}`, `{"tine/max-calls":"many","tine/max-age":{},"tine/min-instances":-1}`, defaults},
		{"others do not matter", `{}`, `{"max-calls":5,"tine/max":7}`, defaults},
	} {
		t.Run(test.name, func(t *testing.T) {
			var app, fn Annotations
			if err := errors.Join(json.Unmarshal([]byte(test.app), &app), json.Unmarshal([]byte(test.fn), &fn)); err != nil {
				t.Fatal(err)
			}
			if got := ScaleOf(app, fn, defaults); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestUnreadableScaleIsRefused(t *testing.T) {
	for _, test := range []struct {
		key, value string
		ok         bool
	}{
		{AnnotationMinInstances, `0`, true},
		{AnnotationMinInstances, `"10000"`, true},
		{AnnotationMinInstances, `10001`, false},
		{AnnotationMaxInstances, `-1`, false},
		{AnnotationMaxInstances, `1.5`, false},
		{AnnotationMaxInstances, `[1]`, false},
		{AnnotationMaxCalls, `"a lot"`, false},
		{AnnotationMaxAge, `"36h"`, true},
		{AnnotationMaxAge, `3600`, true},
		{AnnotationMaxAge, `"-1s"`, false},
		{AnnotationMaxAge, `"9000h"`, false},
		{AnnotationMaxAge, `true`, false},
	} {
		fn := Fn{Name: "a", AppID: "app", Image: "image", Annotations: Annotations{test.key: json.RawMessage(test.value)}}
		fn.NormalizeNew()
		err := fn.ValidateNew()
		if (err == nil) != test.ok || err != nil && (!errors.Is(err, ErrAnnotationValue) || !strings.Contains(err.Error(), test.key+", it must be")) {
			t.Errorf("%s: %s: %v", test.key, test.value, err)
		}
	}
}
