package model

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func validFn() *Fn {
	return &Fn{
		Name: "fn", AppID: "app", Image: "image:1", Memory: 128, Timeout: 30, IdleTimeout: 30, Config: Config{"a": "1", "b": "1"},
		Annotations: Annotations{"a": []byte("1"), "b": []byte("1")}, Shape: "GENERIC_X86", CreatedAt: base, UpdatedAt: base,
	}
}

func TestFnValidation(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Fn)
		want   string
	}{
		{"fine", func(*Fn) {}, ""},
		{"least numbers", func(f *Fn) { f.Memory, f.Timeout, f.IdleTimeout = 1, 1, 1 }, ""},
		{"greatest numbers", func(f *Fn) { f.Memory, f.Timeout, f.IdleTimeout = 8192, 300, 3600 }, ""},
		{"all name characters", func(f *Fn) { f.Name = "AZaz09-_.~$&+=:@" }, ""},
		{"longest name", func(f *Fn) { f.Name = strings.Repeat("n", 255) }, ""},
		{"longest image", func(f *Fn) { f.Image = strings.Repeat("i", 256) }, ""},

		{"id before app", func(f *Fn) { f.ID, f.AppID = "id", "" }, "ID cannot be provided for Fn creation"},
		{"app before name", func(f *Fn) { f.AppID, f.Name = "", "" }, "Missing AppID on Fn"},
		{"name before image", func(f *Fn) { f.Name, f.Image = "", "" }, "Missing Fn name"},
		{"long name before its characters", func(f *Fn) { f.Name = strings.Repeat("/", 256) }, "Fn name must be 255 characters or less"},
		{"characters before image", func(f *Fn) { f.Name, f.Image = "a b", "" }, "name must be a valid string"},
		{"slash", func(f *Fn) { f.Name = "a/b" }, "name must be a valid string"},
		{"percent", func(f *Fn) { f.Name = "%41" }, "name must be a valid string"},
		{"comma", func(f *Fn) { f.Name = "a,b" }, "name must be a valid string"},
		{"no ASCII", func(f *Fn) { f.Name = "é" }, "name must be a valid string"},
		{"image before timeout", func(f *Fn) { f.Image, f.Timeout = "", -1 }, "Missing image on Fn"},
		{"long image", func(f *Fn) { f.Image = strings.Repeat("i", 257) }, "Fn image must be 256 characters or less"},
		{"control character in image", func(f *Fn) { f.Image = "a\nb" }, "Invalid Fn image, it contains a control character"},
		{"timeout before idle timeout", func(f *Fn) { f.Timeout, f.IdleTimeout = 301, -1 }, "timeout value is out of range, must be between 0 and 300"},
		{"negative timeout", func(f *Fn) { f.Timeout = -1 }, "timeout value is out of range, must be between 0 and 300"},
		{"idle timeout before memory", func(f *Fn) { f.IdleTimeout, f.Memory = 3601, 8193 }, "idle_timeout value is out of range, must be between 0 and 3600"},
		{"memory before annotations", func(f *Fn) { f.Memory, f.Annotations = 8193, Annotations{"": nil} }, "memory value is out of range. It should be between 0 and 8192"},
		{"annotations before config", func(f *Fn) {
			f.Annotations, f.Config = Annotations{"k": []byte("null")}, Config{"\x00": ""}
		}, Describe(ErrAnnotationValue).Text},
		{"config", func(f *Fn) { f.Config = Config{"K": "\x00"} }, `Invalid config, key "K" or its value contains a NUL character`},
	} {
		fn := validFn()
		test.change(fn)
		wantText(t, test.name, fn.ValidateNew(), test.want)
	}
	fn := validFn()
	fn.ID = "id"
	if err := fn.Validate(); err != nil {
		t.Errorf("a function that exists: %v", err)
	}
}

func TestFnNormalization(t *testing.T) {
	fn := Fn{
		Name: "f", Shape: "GENERIC_ARM", CreatedAt: base, UpdatedAt: base,
		Annotations: Annotations{AnnotationInvokeEndpoint: []byte("1"), "k": []byte("1")},
	}
	fn.NormalizeNew()
	want := Fn{Name: "f", Memory: 128, Timeout: 30, IdleTimeout: 30, Config: Config{}, Annotations: Annotations{"k": []byte("1")}}
	if diff := cmp.Diff(want, fn); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	fn = Fn{Memory: 1, Timeout: -2, IdleTimeout: 3, Config: Config{"a": ""}}
	fn.NormalizeNew()
	if diff := cmp.Diff(Fn{Memory: 1, Timeout: -2, IdleTimeout: 3, Config: Config{"a": ""}}, fn); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFnMerge(t *testing.T) {
	now := Timestamp{base.Add(time.Hour)}
	for _, test := range []struct {
		name   string
		patch  Fn
		change func(*Fn) // nil: none
	}{
		{"nothing", Fn{}, nil},
		{"itself", *validFn(), nil},
		{"what cannot change", Fn{Name: "other", AppID: "other", Shape: "GENERIC_ARM", CreatedAt: now, UpdatedAt: now}, nil},
		{"empty maps", Fn{Config: Config{}, Annotations: Annotations{}}, nil},
		{"reserved annotation", Fn{Annotations: Annotations{AnnotationInvokeEndpoint: []byte("1")}}, nil},
		{"image", Fn{Image: "image:2"}, func(f *Fn) { f.Image = "image:2" }},
		{"memory", Fn{Memory: 1}, func(f *Fn) { f.Memory = 1 }},
		{"timeout", Fn{Timeout: 1}, func(f *Fn) { f.Timeout = 1 }},
		{"idle timeout", Fn{IdleTimeout: 1}, func(f *Fn) { f.IdleTimeout = 1 }},
		{"config", Fn{Config: Config{"a": "", "c": "2"}}, func(f *Fn) { f.Config = Config{"b": "1", "c": "2"} }},
		{"all config", Fn{Config: Config{"a": "", "b": ""}}, func(f *Fn) { f.Config = Config{} }},
		{"annotations", Fn{Annotations: Annotations{"a": []byte(`""`), "b": []byte("2")}}, func(f *Fn) {
			f.Annotations = Annotations{"b": []byte("2")}
		}},
	} {
		fn, want := validFn(), validFn()
		if test.change != nil {
			test.change(want)
			want.UpdatedAt = now
		}
		got, err := fn.Merge(&test.patch, now)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.name, diff)
		}
		if diff := cmp.Diff(validFn(), fn); diff != "" {
			t.Errorf("%s changes its receiver (-want +got)\n%s", test.name, diff)
		}
	}
	for _, test := range []struct {
		patch Fn
		want  string
	}{
		{Fn{ID: "other", Memory: 8193}, "Fn ID in path does not match that in body"},
		{Fn{Memory: 8193}, "memory value is out of range. It should be between 0 and 8192"},
		{Fn{Timeout: -1}, "timeout value is out of range, must be between 0 and 300"},
		{Fn{IdleTimeout: 3601}, "idle_timeout value is out of range, must be between 0 and 3600"},
		{Fn{Annotations: Annotations{" ": []byte("1")}}, Describe(ErrAnnotationKey).Text},
	} {
		_, err := validFn().Merge(&test.patch, now)
		wantText(t, test.want, err, test.want)
	}
	bare := validFn()
	bare.Config = nil
	if got, err := bare.Merge(&Fn{}, now); err != nil || got.Config == nil || !got.UpdatedAt.Equal(base.Time) {
		t.Errorf("a nil config: %+v, %v", got, err)
	}
}

func TestFnJSON(t *testing.T) {
	fn := validFn()
	fn.ID, fn.Config, fn.Annotations, fn.Shape = "i", Config{}, nil, ""
	want := `{"id":"i","name":"fn","app_id":"app","image":"image:1","memory":128,"timeout":30,"idle_timeout":30,"config":{},` +
		`"created_at":"2020-01-02T03:04:05.000Z","updated_at":"2020-01-02T03:04:05.000Z"}`
	if got, err := json.Marshal(fn); err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	for _, in := range []string{`{"timeout":"30"}`, `{"memory":-1}`, `{"timeout":3000000000}`, `{"config":{"a":1}}`, `{"memory":1.5}`, `{"created_at":"x"}`} {
		if err := json.Unmarshal([]byte(in), new(Fn)); err == nil {
			t.Errorf("%s is accepted", in)
		}
	}
}

func FuzzFn(f *testing.F) {
	f.Add([]byte(`{"name":"f","app_id":"a","image":"i","memory":1,"config":{"K":null}}`), []byte(`{"image":"j","timeout":300}`))
	f.Add([]byte(`{"name":"f~","app_id":"a","image":"i","annotations":{"k":{"a":[]}}}`), []byte(`{"config":{"":"v"},"annotations":{"k":""}}`))
	f.Fuzz(func(t *testing.T, create, update []byte) {
		var fn, patch Fn
		if json.Unmarshal(create, &fn) != nil || json.Unmarshal(update, &patch) != nil {
			return
		}
		fn.NormalizeNew()
		if fn.ValidateNew() != nil {
			return
		}
		merged, err := fn.Merge(&patch, base)
		if err != nil {
			if Describe(err).Status >= 500 {
				t.Errorf("%s: %v", update, err)
			}
			return
		}
		if merged.Config == nil {
			t.Error("config is nil")
		}
		checkMerged(t, merged, merged.Validate(), func() (*Fn, error) { return merged.Merge(&patch, base) })
	})
}
