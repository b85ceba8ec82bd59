package model

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func validTrigger() *Trigger {
	return &Trigger{
		Name: "trigger", AppID: "app", FnID: "fn", Type: "http", Source: "/a", Annotations: Annotations{"a": []byte("1")},
	}
}

func TestTriggerValidation(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Trigger)
		want   string
	}{
		{"fine", func(*Trigger) {}, ""},
		{"root", func(t *Trigger) { t.Source = "/" }, ""},
		{"any source", func(t *Trigger) { t.Source = "/ä b?c#%d//" }, ""},
		{"any script", func(t *Trigger) { t.Name = "日本-_٣" }, ""},
		{"longest name and source", func(t *Trigger) { t.Name, t.Source = strings.Repeat("n", 255), "/"+strings.Repeat("s", 255) }, ""},

		{"id before timestamps", func(t *Trigger) { t.ID, t.CreatedAt = "id", base }, "ID cannot be provided for Trigger creation"},
		{"created_at before updated_at", func(t *Trigger) { t.CreatedAt, t.UpdatedAt = base, base }, "Trigger Created At Provided for Create"},
		{"updated_at before app", func(t *Trigger) { t.UpdatedAt, t.AppID = base, "" }, "Trigger ID Provided for Create"},
		{"app before name", func(t *Trigger) { t.AppID, t.Name = "", "" }, "Missing App ID on Trigger"},
		{"name before function", func(t *Trigger) { t.Name, t.FnID = "", "" }, "Missing name on Trigger"},
		{"long name before its characters", func(t *Trigger) { t.Name = strings.Repeat("/", 256) }, "Trigger name must be 255 characters or less"},
		{"characters before function", func(t *Trigger) { t.Name, t.FnID = "a.b", "" }, "Invalid name for Trigger"},
		{"function before type", func(t *Trigger) { t.FnID, t.Type = "", "" }, "Missing Fn ID on Trigger"},
		{"type before source", func(t *Trigger) { t.Type, t.Source = "", "" }, "Trigger Type Not Supported"},
		{"type is exact", func(t *Trigger) { t.Type = "HTTP" }, "Trigger Type Not Supported"},
		{"source before annotations", func(t *Trigger) { t.Source, t.Annotations = "", Annotations{"": nil} }, "Missing Trigger Source"},
		{"prefix before length", func(t *Trigger) { t.Source = strings.Repeat("s", 257) }, "Missing Trigger Source Prefix '/'"},
		{"long source", func(t *Trigger) { t.Source = "/" + strings.Repeat("s", 256) }, "Trigger source must be 256 characters or less"},
		{"control character", func(t *Trigger) { t.Source = "/a\n" }, "Invalid Trigger Source, it contains a control character"},
		{"annotations", func(t *Trigger) { t.Annotations = Annotations{"k": []byte(`""`)} }, Describe(ErrAnnotationValue).Text},
	} {
		trigger := validTrigger()
		test.change(trigger)
		wantText(t, test.name, trigger.ValidateNew(), test.want)
	}
	trigger := validTrigger()
	trigger.ID, trigger.CreatedAt, trigger.UpdatedAt = "id", base, base
	if err := trigger.Validate(); err != nil {
		t.Errorf("a trigger that exists: %v", err)
	}
}

func TestTriggerNormalization(t *testing.T) {
	trigger := validTrigger()
	trigger.CreatedAt = base
	trigger.Annotations = Annotations{AnnotationHTTPEndpoint: []byte("1"), "k": []byte("1")}
	trigger.NormalizeNew()
	if len(trigger.Annotations) != 1 || trigger.CreatedAt != base { // a given time is an error later
		t.Errorf("%+v", trigger)
	}
}

func TestTriggerMerge(t *testing.T) {
	old := func() *Trigger {
		trigger := validTrigger()
		trigger.ID, trigger.CreatedAt, trigger.UpdatedAt = "id", base, base
		return trigger
	}
	now := Timestamp{base.Add(time.Hour)}
	for _, test := range []struct {
		name   string
		patch  Trigger
		change func(*Trigger) // nil: none
	}{
		{"nothing", Trigger{}, nil},
		{"itself", *old(), nil},
		{"what cannot change", Trigger{AppID: "other", Type: "cron", CreatedAt: now, UpdatedAt: now}, nil},
		{"reserved annotation", Trigger{Annotations: Annotations{AnnotationHTTPEndpoint: []byte("1")}}, nil},
		{"name", Trigger{Name: "other"}, func(t *Trigger) { t.Name = "other" }},
		{"function", Trigger{FnID: "other"}, func(t *Trigger) { t.FnID = "other" }},
		{"source", Trigger{Source: "/b"}, func(t *Trigger) { t.Source = "/b" }},
		{"annotations", Trigger{Annotations: Annotations{"a": []byte("null"), "b": []byte("2")}}, func(t *Trigger) {
			t.Annotations = Annotations{"b": []byte("2")}
		}},
	} {
		trigger, want := old(), old()
		if test.change != nil {
			test.change(want)
			want.UpdatedAt = now
		}
		got, err := trigger.Merge(&test.patch, now)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.name, diff)
		}
		if diff := cmp.Diff(old(), trigger); diff != "" {
			t.Errorf("%s changes its receiver (-want +got)\n%s", test.name, diff)
		}
	}
	for _, test := range []struct {
		patch Trigger
		want  string
	}{
		{Trigger{ID: "other", Name: "a.b"}, "ID in path does not match ID in body"},
		{Trigger{Name: "a.b", Source: "b"}, "Invalid name for Trigger"},
		{Trigger{Source: "b"}, "Missing Trigger Source Prefix '/'"},
		{Trigger{Annotations: Annotations{" ": []byte("1")}}, Describe(ErrAnnotationKey).Text},
	} {
		_, err := old().Merge(&test.patch, now)
		wantText(t, test.want, err, test.want)
	}
}

func TestTriggerJSON(t *testing.T) {
	trigger := validTrigger()
	trigger.ID, trigger.Annotations, trigger.CreatedAt, trigger.UpdatedAt = "i", nil, base, base
	want := `{"id":"i","name":"trigger","app_id":"app","fn_id":"fn","type":"http","source":"/a",` +
		`"created_at":"2020-01-02T03:04:05.000Z","updated_at":"2020-01-02T03:04:05.000Z"}`
	if got, err := json.Marshal(trigger); err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

func FuzzTrigger(f *testing.F) {
	f.Add([]byte(`{"name":"t","app_id":"a","fn_id":"f","type":"http","source":"/"}`), []byte(`{"source":"/b","fn_id":"g"}`))
	f.Add([]byte(`{"name":"t","app_id":"a","fn_id":"f","type":"http","source":"/","annotations":{"k":1}}`), []byte(`{"name":"u","annotations":{"k":null}}`))
	f.Fuzz(func(t *testing.T, create, update []byte) {
		var trigger, patch Trigger
		if json.Unmarshal(create, &trigger) != nil || json.Unmarshal(update, &patch) != nil {
			return
		}
		trigger.NormalizeNew()
		if trigger.ValidateNew() != nil {
			return
		}
		merged, err := trigger.Merge(&patch, base)
		if err != nil {
			if Describe(err).Status >= 500 {
				t.Errorf("%s: %v", update, err)
			}
			return
		}
		checkMerged(t, merged, merged.Validate(), func() (*Trigger, error) { return merged.Merge(&patch, base) })
	})
}
