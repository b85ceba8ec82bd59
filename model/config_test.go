package model

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestConfigMerge(t *testing.T) {
	for _, test := range []struct {
		name             string
		old, patch, want Config
	}{
		{"nothing", Config{"a": "1"}, nil, Config{"a": "1"}},
		{"empty", Config{"a": "1", "empty": ""}, Config{}, Config{"a": "1", "empty": ""}},
		{"add, replace, delete", Config{"a": "1", "b": "1", "c": "1"}, Config{"b": "2", "c": "", "d": "2", "e": ""}, Config{"a": "1", "b": "2", "d": "2"}},
		{"to nil", nil, Config{"a": "1"}, Config{"a": "1"}},
		{"delete from nil", nil, Config{"a": ""}, nil},
	} {
		before := test.old.Merge(nil)
		got := test.old.Merge(test.patch)
		if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.name, diff)
		}
		if !test.old.Equal(before) {
			t.Errorf("%s changes its receiver", test.name)
		}
		if got != nil {
			got["new"] = "x"
			if test.old["new"] != "" {
				t.Errorf("%s shares its result with the receiver", test.name)
			}
		}
	}
}

func TestConfigJSON(t *testing.T) {
	var c Config
	if err := json.Unmarshal([]byte(`{"a":"1","b":null,"c":""}`), &c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Config{"a": "1", "b": "", "c": ""}, c); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, in := range []string{`{"a":1}`, `{"a":{}}`, `[]`, `"x"`} {
		if err := json.Unmarshal([]byte(in), &c); err == nil {
			t.Errorf("%s is accepted", in)
		}
	}
}

func TestConfigRefusesNUL(t *testing.T) {
	for _, c := range []Config{{"a\x00": "1"}, {"a": "1\x00"}} {
		if err := c.Validate(); !errors.Is(err, ErrInvalidText) || Describe(err).Status != 400 {
			t.Errorf("got %v", err)
		}
	}
	want := `Invalid config, key "a" or its value contains a NUL character`
	for range 100 {
		if err := (Config{"a": "\x00", "b": "\x00"}).Validate(); Describe(err).Text != want {
			t.Fatalf("got %v, want %s", err, want)
		}
	}
	if err := (Config{"": "", "any key=": "line\nbreak é"}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestEnvironmentIsTheFunctionsOverTheApps(t *testing.T) {
	app := &App{Config: Config{"both": "app", "app": "1"}}
	fn := &Fn{Config: Config{"both": "fn", "fn": "2", "empty": ""}}
	got := Environment(app, fn)
	if diff := cmp.Diff(Config{"both": "fn", "app": "1", "fn": "2", "empty": ""}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	got["both"] = "changed"
	if app.Config["both"] != "app" || fn.Config["both"] != "fn" {
		t.Error("the environment shares its map")
	}
}
