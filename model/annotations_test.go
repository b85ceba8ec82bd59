package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnnotationRules(t *testing.T) {
	text := func(bytes int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("v", bytes-2) + `"`) }
	for _, test := range []struct {
		name  string
		key   string
		value json.RawMessage
		want  error
	}{
		{"text", "key", text(10), nil},
		{"number", "key", []byte("0"), nil},
		{"true", "key", []byte("true"), nil},
		{"false", "key", []byte("false"), nil},
		{"object", "key", []byte(`{"a":null}`), nil},
		{"empty object", "key", []byte("{}"), nil},
		{"empty array", "key", []byte("[]"), nil},
		{"blank text", "key", []byte(`" "`), nil},
		{"null", "key", []byte("null"), ErrAnnotationValue},
		{"empty text", "key", []byte(`""`), ErrAnnotationValue},
		{"no value", "key", nil, ErrAnnotationValue},
		{"longest value", "key", text(512), nil},
		{"too long a value", "key", text(513), ErrAnnotationValueTooLong},
		{"first and last key character", "!~", []byte("1"), nil},
		{"punctuation in key", `a/b.c-d_e:"f"\`, []byte("1"), nil},
		{"no key", "", []byte("1"), ErrAnnotationKey},
		{"space in key", "a b", []byte("1"), ErrAnnotationKey},
		{"tab in key", "a\t", []byte("1"), ErrAnnotationKey},
		{"NUL in key", "a\x00", []byte("1"), ErrAnnotationKey},
		{"DEL in key", "a\x7f", []byte("1"), ErrAnnotationKey},
		{"no ASCII in key", "é", []byte("1"), ErrAnnotationKey},
		{"longest key", strings.Repeat("k", 128), []byte("1"), nil},
		{"too long a key", strings.Repeat("k", 129), []byte("1"), ErrAnnotationKeyTooLong},
		{"key before its length", strings.Repeat(" ", 129), []byte("1"), ErrAnnotationKey},
		{"length of the key before the value", strings.Repeat("k", 129), []byte("null"), ErrAnnotationKeyTooLong},
	} {
		if err := (Annotations{test.key: test.value}).Validate(); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
}

func numbered(n int) Annotations {
	a := Annotations{}
	for i := range n {
		a[fmt.Sprintf("key%03d", i)] = json.RawMessage("1")
	}
	return a
}

func TestAnnotationsAreCountedLast(t *testing.T) {
	if err := numbered(100).Validate(); err != nil {
		t.Error(err)
	}
	many := numbered(101)
	if err := many.Validate(); !errors.Is(err, ErrAnnotationTooMany) {
		t.Errorf("got %v", err)
	}
	many["key050"] = json.RawMessage("null")
	if err := many.Validate(); !errors.Is(err, ErrAnnotationValue) {
		t.Errorf("got %v", err)
	}
	if err := Annotations(nil).Validate(); err != nil {
		t.Error(err)
	}
}

func TestFirstWrongAnnotationByKeyIsReported(t *testing.T) {
	wrong := Annotations{"a": []byte("null"), "b ": []byte("1"), strings.Repeat("c", 129): []byte("1")}
	for range 100 {
		if err := wrong.Validate(); !errors.Is(err, ErrAnnotationValue) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestAnnotationJSON(t *testing.T) {
	for in, want := range map[string]Annotations{
		`null`:                              nil,
		`{}`:                                {},
		` { "k" : { "b" : 1 , "a" : 2 } } `: {"k": []byte(`{"b":1,"a":2}`)},
		`{"k":null}`:                        {"k": []byte("null")},
		`{"k":" x "}`:                       {"k": []byte(`" x "`)},
		`{"k":[ 1.0, 1e400 ]}`:              {"k": []byte("[1.0,1e400]")},
		`{"k":1,"k":2}`:                     {"k": []byte("2")},
	} {
		var got Annotations
		if err := json.Unmarshal([]byte(in), &got); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", in, diff)
		}
	}
	for _, in := range []string{`[]`, `"x"`, `1`, `{"k":}`, `{"k":1`} {
		var got Annotations
		if err := json.Unmarshal([]byte(in), &got); err == nil {
			t.Errorf("%s: got %v", in, got)
		}
	}
}

func TestAnnotationMerge(t *testing.T) {
	for _, test := range []struct{ name, old, patch, want string }{
		{"nothing", `{"a":1}`, `{}`, `{"a":1}`},
		{"nil", `{"a":1}`, `null`, `{"a":1}`},
		{"add", `{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`},
		{"replace", `{"a":1}`, `{"a":2}`, `{"a":2}`},
		{"delete by null", `{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		{"delete by empty text", `{"a":1,"b":2}`, `{"a":""}`, `{"b":2}`},
		{"delete what is not there", `{"a":1}`, `{"b":null,"c":""}`, `{"a":1}`},
		{"empty object is a value", `{"a":1}`, `{"a":{}}`, `{"a":{}}`},
		{"to nil", `null`, `{"a":1}`, `{"a":1}`},
	} {
		var old, before, patch, want Annotations
		if err := errors.Join(json.Unmarshal([]byte(test.old), &old), json.Unmarshal([]byte(test.old), &before),
			json.Unmarshal([]byte(test.patch), &patch), json.Unmarshal([]byte(test.want), &want)); err != nil {
			t.Fatal(err)
		}
		if got := old.Merge(patch); !got.Equal(want) {
			t.Errorf("%s: got %s, want %s", test.name, got, want)
		}
		if diff := cmp.Diff(before, old); diff != "" {
			t.Errorf("%s changes its receiver (-want +got)\n%s", test.name, diff)
		}
	}
}

func TestAnnotationEquality(t *testing.T) {
	a := Annotations{"k": []byte("1")}
	for _, test := range []struct {
		other Annotations
		want  bool
	}{
		{Annotations{"k": []byte("1")}, true},
		{Annotations{"k": []byte("1.0")}, false},
		{Annotations{"l": []byte("1")}, false},
		{Annotations{"k": []byte("1"), "l": []byte("1")}, false},
		{nil, false},
	} {
		if a.Equal(test.other) != test.want || test.other.Equal(a) != test.want {
			t.Errorf("%s and %s: want %v", a, test.other, test.want)
		}
	}
	if !(Annotations{}).Equal(nil) {
		t.Error("nil is not empty")
	}
}

func TestReservedAnnotations(t *testing.T) {
	a := Annotations{AnnotationInvokeEndpoint: []byte("1"), AnnotationHTTPEndpoint: []byte("2"), "kept": []byte("3")}
	if got := a.WithoutReserved(); !got.Equal(Annotations{"kept": []byte("3")}) {
		t.Errorf("got %s", got)
	}
	if len(a) != 3 {
		t.Error("the receiver has changed")
	}
	long := "http://" + strings.Repeat("h", 1000)
	with, err := a.With(AnnotationInvokeEndpoint, long)
	if err != nil || string(with[AnnotationInvokeEndpoint]) != `"`+long+`"` || len(with) != 3 || string(a[AnnotationInvokeEndpoint]) != "1" {
		t.Errorf("got %s, %v", with, err)
	}
	if with, err := Annotations(nil).With("k", "v"); err != nil || !with.Equal(Annotations{"k": []byte(`"v"`)}) {
		t.Errorf("got %s, %v", with, err)
	}
}

func FuzzAnnotations(f *testing.F) {
	f.Add([]byte(`{"a": {"b" : 1}, "c":null}`), []byte(`{"a":""}`))
	f.Add([]byte(`null`), []byte(`{"":[]}`))
	f.Add([]byte(`{"k":"\ud800"}`), []byte(`{"k":"\u2028<"}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var a, patch Annotations
		if json.Unmarshal(first, &a) != nil || json.Unmarshal(second, &patch) != nil {
			return
		}
		for key, value := range a {
			if !json.Valid(value) {
				t.Fatalf("%q: %s is not JSON", key, value)
			}
		}
		merged := a.Merge(patch)
		if patch.Validate() == nil {
			for key, value := range patch {
				if string(merged[key]) != string(value) {
					t.Errorf("%q is %s after merging %s", key, merged[key], value)
				}
			}
		}
		if a.Validate() == nil && merged.Validate() == nil && !merged.Merge(patch).Equal(merged) {
			t.Error("merging twice is not merging once")
		}
	})
}
