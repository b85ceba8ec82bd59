package model

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var base = Timestamp{time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)}

// wantText checks an error by what a client sees of it; empty is no error.
func wantText(t *testing.T, name string, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = Describe(err).Text
	}
	if got != want {
		t.Errorf("%s: got %q, want %q", name, got, want)
	}
}

func TestAppValidation(t *testing.T) {
	bad := Annotations{"": nil}
	for _, test := range []struct {
		name string
		app  App
		want string
	}{
		{"least", App{Name: "a"}, ""},
		{"longest name", App{Name: strings.Repeat("n", 255)}, ""},
		{"any script", App{Name: "приложение-日本_٣½"}, ""},
		{"all shapes: none", App{Name: "a", Shape: ""}, ""},
		{"all shapes: x86", App{Name: "a", Shape: "GENERIC_X86"}, ""},
		{"all shapes: arm", App{Name: "a", Shape: "GENERIC_ARM"}, ""},
		{"all shapes: both", App{Name: "a", Shape: "GENERIC_X86_ARM"}, ""},

		{"id before everything", App{ID: "i", Annotations: bad}, "App ID cannot be supplied on create"},
		{"no name before annotations", App{Annotations: bad}, "Missing Name"},
		{"long name before its characters", App{Name: strings.Repeat("/", 256)}, "App name must be 255 characters or less"},
		{"length is in bytes", App{Name: strings.Repeat("é", 128)}, "App name must be 255 characters or less"},
		{"space", App{Name: "a b"}, "Invalid app name"},
		{"dot", App{Name: "a.b"}, "Invalid app name"},
		{"slash", App{Name: "a/b"}, "Invalid app name"},
		{"combining mark", App{Name: "a\u0301"}, "Invalid app name"},
		{"emoji", App{Name: "😀"}, "Invalid app name"},
		{"not UTF-8", App{Name: "\xff"}, "Invalid app name"},
		{"name before annotations", App{Name: "%", Annotations: bad}, "Invalid app name"},
		{
			"annotations before syslog",
			App{Name: "a", Annotations: bad, SyslogURL: new("x")},
			"Invalid annotation key, annotation keys must be non-empty ascii strings excluding whitespace",
		},
		{
			"config before syslog",
			App{Name: "a", Config: Config{"K": "\x00"}, SyslogURL: new("x")},
			`Invalid config, key "K" or its value contains a NUL character`,
		},
		{
			"syslog before shape",
			App{Name: "a", SyslogURL: new("x"), Shape: "x"},
			`invalid syslog url: "x" invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported`,
		},
		{"shape", App{Name: "a", Shape: "generic_x86"}, "Invalid app shape"},
	} {
		wantText(t, test.name, test.app.ValidateNew(), test.want)
	}
	if err := (&App{ID: "i", Name: "a"}).Validate(); err != nil {
		t.Errorf("an app that exists: %v", err)
	}
}

func TestSyslogURLs(t *testing.T) {
	scheme := " invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported"
	for url, want := range map[string]string{
		"udp://h:514": "", "tcp://h": "", "unix:///dev/log": "", "unixgram:///dev/log": "", "tcp+tls://h:6514": "",
		"  tcp://h  ": "", "TCP://h": "", "": "",
		"tls://h":       `invalid syslog url: "tls://h"` + scheme,
		"http://h":      `invalid syslog url: "http://h"` + scheme,
		"host:514":      `invalid syslog url: "host:514"` + scheme,
		"/dev/log":      `invalid syslog url: "/dev/log"` + scheme,
		" x ":           `invalid syslog url: " x "` + scheme,
		"://h":          `invalid syslog url: "://h" parse "://h": missing protocol scheme`,
		"tcp://h:port":  `invalid syslog url: "tcp://h:port" parse "tcp://h:port": invalid port ":port" after host`,
		"tcp://a,udp:b": `invalid syslog url: "tcp://a,udp:b" parse "tcp://a,udp:b": invalid port ":b" after host`,
	} {
		err := (&App{Name: "a", SyslogURL: &url}).Validate()
		wantText(t, url, err, want)
		if err != nil && (!errors.Is(err, ErrAppInvalidSyslogURL) || Describe(err).Status != 400) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestAppNormalization(t *testing.T) {
	app := App{
		ID: "kept", Name: "a", SyslogURL: new(""), Shape: "GENERIC_ARM", CreatedAt: base, UpdatedAt: base,
		Annotations: Annotations{AnnotationInvokeEndpoint: []byte("1"), AnnotationHTTPEndpoint: []byte("1"), "k": []byte("1")},
	}
	app.NormalizeNew()
	want := App{ID: "kept", Name: "a", Shape: "GENERIC_ARM", Annotations: Annotations{"k": []byte("1")}}
	if diff := cmp.Diff(want, app); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAppMerge(t *testing.T) {
	old := func() *App {
		return &App{
			ID: "id", Name: "app", Shape: "GENERIC_X86", SyslogURL: new("tcp://a"), Config: Config{"a": "1", "b": "1"},
			Annotations: Annotations{"a": []byte("1"), "b": []byte("1")}, CreatedAt: base, UpdatedAt: base,
		}
	}
	now := Timestamp{base.Add(time.Hour)}
	for _, test := range []struct {
		name   string
		patch  App
		change func(*App) // nil: none
	}{
		{"nothing", App{}, nil},
		{"itself", *old(), nil},
		{"what cannot change", App{Shape: "GENERIC_ARM", CreatedAt: now, UpdatedAt: now}, nil},
		{"equal syslog URL", App{SyslogURL: new("tcp://a")}, nil},
		{"reserved annotation", App{Annotations: Annotations{AnnotationInvokeEndpoint: []byte("1")}}, nil},
		{"deletions of nothing", App{Config: Config{"x": ""}, Annotations: Annotations{"x": []byte("null")}}, nil},
		{"config", App{Config: Config{"a": "2", "b": "", "c": "2"}}, func(a *App) { a.Config = Config{"a": "2", "c": "2"} }},
		{"annotations", App{Annotations: Annotations{"a": []byte("null"), "c": []byte("2")}}, func(a *App) {
			a.Annotations = Annotations{"b": []byte("1"), "c": []byte("2")}
		}},
		{"syslog URL", App{SyslogURL: new("udp://b")}, func(a *App) { a.SyslogURL = new("udp://b") }},
		{"no syslog URL", App{SyslogURL: new("")}, func(a *App) { a.SyslogURL = nil }},
	} {
		app, want := old(), old()
		if test.change != nil {
			test.change(want)
			want.UpdatedAt = now
		}
		got, err := app.Merge(&test.patch, now)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.name, diff)
		}
		if diff := cmp.Diff(old(), app); diff != "" {
			t.Errorf("%s changes its receiver (-want +got)\n%s", test.name, diff)
		}
	}
	for _, test := range []struct {
		patch App
		want  string
	}{
		{App{ID: "other", Name: "other"}, "App ID in path does not match ID in body"},
		{App{Name: "other", SyslogURL: new("x")}, "Could not update - name is immutable"},
		{App{Annotations: Annotations{" ": []byte("1")}}, Describe(ErrAnnotationKey).Text},
		{App{Config: Config{"\x00": "1"}}, `Invalid config, key "\x00" or its value contains a NUL character`},
	} {
		_, err := old().Merge(&test.patch, now)
		wantText(t, test.want, err, test.want)
	}
}

func TestUpdatedAtGrowsWhenTheClockDoesNot(t *testing.T) {
	earlier := Timestamp{base.Add(-time.Hour)}
	app, err1 := (&App{Name: "a", UpdatedAt: base}).Merge(&App{Config: Config{"a": "1"}}, earlier)
	fn, err2 := (&Fn{Name: "f", AppID: "a", Image: "i", Memory: 1, Timeout: 1, IdleTimeout: 1, UpdatedAt: base}).Merge(&Fn{Memory: 2}, base)
	trigger, err3 := (&Trigger{Name: "t", AppID: "a", FnID: "f", Type: "http", Source: "/", UpdatedAt: base}).Merge(&Trigger{Source: "/a"}, base)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for _, got := range []Timestamp{app.UpdatedAt, fn.UpdatedAt, trigger.UpdatedAt} {
		if !got.Equal(base.Add(time.Millisecond)) {
			t.Errorf("got %v", got)
		}
	}
}

func TestAppJSON(t *testing.T) {
	for want, app := range map[string]App{
		`{"id":"","name":"","created_at":"0001-01-01T00:00:00.000Z","updated_at":"0001-01-01T00:00:00.000Z"}`: {Config: Config{}, Annotations: Annotations{}},
		`{"id":"i","name":"n","config":{"K":"v"},"annotations":{"k":[1]},"syslog_url":"tcp://a","shape":"GENERIC_ARM",` +
			`"created_at":"2020-01-02T03:04:05.000Z","updated_at":"2020-01-02T03:04:05.000Z"}`: {
			ID: "i", Name: "n", Config: Config{"K": "v"}, Annotations: Annotations{"k": []byte("[1]")}, SyslogURL: new("tcp://a"),
			Shape: "GENERIC_ARM", CreatedAt: base, UpdatedAt: base,
		},
	} {
		if got, err := json.Marshal(app); err != nil || string(got) != want {
			t.Errorf("got %s, %v\nwant %s", got, err, want)
		}
	}
}

func FuzzApp(f *testing.F) {
	f.Add([]byte(`{"name":"a","config":{"K":"v"},"annotations":{"k":1},"syslog_url":"tcp://a"}`), []byte(`{"config":{"K":""}}`))
	f.Add([]byte(`{"name":"é","shape":"GENERIC_ARM","created_at":"2020-01-02T03:04:05Z"}`), []byte(`{"annotations":{"k":null},"syslog_url":""}`))
	f.Fuzz(func(t *testing.T, create, update []byte) {
		var app, patch App
		if json.Unmarshal(create, &app) != nil || json.Unmarshal(update, &patch) != nil {
			return
		}
		app.NormalizeNew()
		if app.ValidateNew() != nil {
			return
		}
		merged, err := app.Merge(&patch, base)
		if err != nil {
			if Describe(err).Status >= 500 {
				t.Errorf("%s: %v", update, err)
			}
			return
		}
		checkMerged(t, merged, merged.Validate(), func() (*App, error) { return merged.Merge(&patch, base) })
	})
}

// checkMerged checks what holds for every merge: its result is valid, merging
// once more changes nothing, and JSON carries it.
func checkMerged[T any](t *testing.T, merged *T, invalid error, again func() (*T, error)) {
	t.Helper()
	if invalid != nil {
		t.Errorf("the result is invalid: %v", invalid)
	}
	twice, err := again()
	if err != nil {
		t.Fatalf("merging again: %v", err)
	}
	if diff := cmp.Diff(merged, twice, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("merging again (-once +twice)\n%s", diff)
	}
	raw, err := json.Marshal(merged)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, new(T)); err != nil {
		t.Errorf("%s: %v", raw, err)
	}
}
