package storetest

import (
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/model"
)

var triggerRules = []rule{
	{"insert returns a new trigger and reads return the same", insertedTriggerIsKept},
	{"invalid triggers are refused", invalidTriggersAreRefused},
	{"sources are matched exactly", sourcesAreExact},
	{"unknown and empty identifiers", unknownTriggers},
	{"update merges", updateTriggerMerges},
	{"update without a change keeps updated_at", idleTriggerUpdate},
	{"update checks function, source and name", updateTriggerChecks},
	{"remove frees source and name", removeTriggerFrees},
}

func insertedTriggerIsKept(t *testing.T, s store.Store) {
	fn := newFn(t, s, newApp(t, s, "app"), "fn")
	given := triggerFor(fn, "trigger", "/a/b")
	given.Annotations = model.Annotations{"k": []byte(`{"b":1,"a":2}`), model.AnnotationHTTPEndpoint: []byte(`"http://stale"`)}
	before := copyOf(t, given)
	trigger, err := s.InsertTrigger(t.Context(), given)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, given, before)
	wantNew(t, trigger.ID, trigger.CreatedAt, trigger.UpdatedAt)
	want := triggerFor(fn, "trigger", "/a/b")
	want.Annotations = model.Annotations{"k": []byte(`{"b":1,"a":2}`)}
	want.ID, want.CreatedAt, want.UpdatedAt = trigger.ID, trigger.CreatedAt, trigger.UpdatedAt
	wantSame(t, trigger, want)
	byID, err := s.TriggerByID(t.Context(), trigger.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, byID, want)
	bySource, err := s.TriggerBySource(t.Context(), fn.AppID, "http", "/a/b")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, bySource, want)
	delete(trigger.Annotations, "k")
	wantSame(t, given, before)
}

func invalidTriggersAreRefused(t *testing.T, s store.Store) {
	app, other := newApp(t, s, "app"), newApp(t, s, "other")
	fn, second, foreign := newFn(t, s, app, "fn"), newFn(t, s, app, "second"), newFn(t, s, other, "foreign")
	newTrigger(t, s, fn, "taken", "/taken")
	trigger := func(change func(*model.Trigger)) *model.Trigger {
		trigger := &model.Trigger{Name: "taken", AppID: "unknown", FnID: "unknown", Type: "http", Source: "/taken"}
		change(trigger)
		return trigger
	}
	for _, test := range []struct {
		trigger *model.Trigger
		want    model.Kind
	}{
		{&model.Trigger{ID: "id", CreatedAt: model.Now()}, model.ErrTriggerIDProvided},
		{&model.Trigger{CreatedAt: model.Now(), UpdatedAt: model.Now()}, model.ErrTriggerCreatedAtProvided},
		{&model.Trigger{UpdatedAt: model.Now()}, model.ErrTriggerUpdatedAtProvided},
		{&model.Trigger{}, model.ErrTriggerMissingAppID},
		{trigger(func(t *model.Trigger) { t.Name, t.FnID = "", "" }), model.ErrTriggerMissingName},
		{trigger(func(t *model.Trigger) { t.Name = strings.Repeat("/", 256) }), model.ErrTriggerNameTooLong},
		{trigger(func(t *model.Trigger) { t.Name, t.FnID = "a.b", "" }), model.ErrTriggerInvalidName},
		{trigger(func(t *model.Trigger) { t.FnID, t.Type = "", "" }), model.ErrTriggerMissingFnID},
		{trigger(func(t *model.Trigger) { t.Type, t.Source = "cron", "" }), model.ErrTriggerType},
		{trigger(func(t *model.Trigger) { t.Source = "" }), model.ErrTriggerMissingSource},
		{trigger(func(t *model.Trigger) { t.Source = "a" }), model.ErrTriggerSourcePrefix},
		{trigger(func(t *model.Trigger) { t.Source = "/" + strings.Repeat("s", 256) }), model.ErrTriggerSourceTooLong},
		{trigger(func(t *model.Trigger) { t.Annotations = model.Annotations{"k": []byte(`""`)} }), model.ErrAnnotationValue},
		{trigger(func(*model.Trigger) {}), model.ErrAppNotFound},
		{trigger(func(t *model.Trigger) { t.AppID = app.ID }), model.ErrFnNotFound},
		{trigger(func(t *model.Trigger) { t.AppID, t.FnID = app.ID, foreign.ID }), model.ErrTriggerFnOfOtherApp},
		{triggerFor(fn, "taken", "/taken"), model.ErrTriggerSourceExists},
		{triggerFor(second, "free", "/taken"), model.ErrTriggerSourceExists},
		{triggerFor(fn, "taken", "/free"), model.ErrTriggerAlreadyExists},
	} {
		_, err := s.InsertTrigger(t.Context(), test.trigger)
		wantKind(t, err, test.want)
	}
	page, err := s.ListTriggers(t.Context(), model.TriggerFilter{AppID: app.ID})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, triggerSources(page.Items), "/taken")
	newTrigger(t, s, second, "taken", "/free")
	newTrigger(t, s, foreign, "taken", "/taken")
}

func sourcesAreExact(t *testing.T, s store.Store) {
	fn := newFn(t, s, newApp(t, s, "app"), "fn")
	sources := []string{"/", "/a", "/A", "/a/", "/a/b", "//a", "/%61", "/a?b", "/_", "/%"}
	byID := map[string]string{}
	for i, source := range sources {
		byID[source] = newTrigger(t, s, fn, "t"+string(rune('a'+i)), source).ID
	}
	for _, source := range sources {
		trigger, err := s.TriggerBySource(t.Context(), fn.AppID, "http", source)
		if err != nil || trigger.ID != byID[source] {
			t.Errorf("%s: %+v, %v", source, trigger, err)
		}
	}
	for _, key := range [][3]string{
		{fn.AppID, "http", "/b"},
		{fn.AppID, "http", ""},
		{fn.AppID, "http", "a"},
		{fn.AppID, "HTTP", "/a"},
		{fn.AppID, "", "/a"},
		{"", "http", "/a"},
		{"unknown", "http", "/a"},
	} {
		_, err := s.TriggerBySource(t.Context(), key[0], key[1], key[2])
		wantKind(t, err, model.ErrTriggerNotFound)
	}
}

func unknownTriggers(t *testing.T, s store.Store) {
	for id, want := range map[string]model.Kind{"": model.ErrTriggerMissingID, "unknown": model.ErrTriggerNotFound} {
		_, err := s.TriggerByID(t.Context(), id)
		wantKind(t, err, want)
		_, err = s.UpdateTrigger(t.Context(), &model.Trigger{ID: id, Name: "name"})
		wantKind(t, err, want)
		wantKind(t, s.RemoveTrigger(t.Context(), id), want)
	}
}

func updateTriggerMerges(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	fn, second := newFn(t, s, app, "fn"), newFn(t, s, app, "second")
	given := triggerFor(fn, "trigger", "/a")
	given.Annotations = model.Annotations{"keep": []byte("1"), "drop": []byte("1")}
	old, err := s.InsertTrigger(t.Context(), given)
	if err != nil {
		t.Fatal(err)
	}
	patch := &model.Trigger{
		ID: old.ID, Name: "renamed", FnID: second.ID, Source: "/b", AppID: newApp(t, s, "other").ID, Type: "cron",
		Annotations: model.Annotations{"drop": []byte("null"), "add": []byte("2")},
	}
	before := copyOf(t, patch)
	updated, err := s.UpdateTrigger(t.Context(), patch)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, patch, before)
	want := triggerFor(second, "renamed", "/b")
	want.Annotations = model.Annotations{"keep": []byte("1"), "add": []byte("2")}
	want.ID, want.CreatedAt, want.UpdatedAt = old.ID, old.CreatedAt, updated.UpdatedAt
	wantSame(t, updated, want)
	wantChanged(t, updated.CreatedAt, updated.UpdatedAt, old.CreatedAt, old.UpdatedAt)
	read, err := s.TriggerByID(t.Context(), old.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, updated)
	_, err = s.TriggerBySource(t.Context(), app.ID, "http", "/a")
	wantKind(t, err, model.ErrTriggerNotFound)
}

func idleTriggerUpdate(t *testing.T, s store.Store) {
	trigger := newTrigger(t, s, newFn(t, s, newApp(t, s, "app"), "fn"), "trigger", "/a")
	whole := copyOf(t, trigger)
	whole.Annotations = model.Annotations{model.AnnotationHTTPEndpoint: []byte(`"http://generated"`)}
	for _, patch := range []*model.Trigger{{ID: trigger.ID}, whole} {
		updated, err := s.UpdateTrigger(t.Context(), patch)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, updated, trigger)
	}
	read, err := s.TriggerByID(t.Context(), trigger.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, trigger)
}

func updateTriggerChecks(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	fn, second := newFn(t, s, app, "fn"), newFn(t, s, app, "second")
	foreign := newFn(t, s, newApp(t, s, "other"), "foreign")
	trigger := newTrigger(t, s, fn, "trigger", "/a")
	newTrigger(t, s, fn, "taken", "/taken")
	newTrigger(t, s, second, "trigger", "/second")
	newTrigger(t, s, foreign, "free", "/free")
	for _, test := range []struct {
		patch model.Trigger
		want  model.Kind
	}{
		{model.Trigger{FnID: "unknown", Source: "/taken"}, model.ErrFnNotFound},
		{model.Trigger{FnID: foreign.ID, Source: "/taken"}, model.ErrTriggerFnOfOtherApp},
		{model.Trigger{Source: "/taken"}, model.ErrTriggerSourceExists},
		{model.Trigger{Name: "taken"}, model.ErrTriggerAlreadyExists},
		{model.Trigger{FnID: second.ID}, model.ErrTriggerAlreadyExists},
		{model.Trigger{Name: "taken", Source: "/second"}, model.ErrTriggerSourceExists},
		{model.Trigger{Name: "not valid", Source: "/taken"}, model.ErrTriggerInvalidName},
		{model.Trigger{Source: "taken"}, model.ErrTriggerSourcePrefix},
	} {
		test.patch.ID = trigger.ID
		_, err := s.UpdateTrigger(t.Context(), &test.patch)
		wantKind(t, err, test.want)
	}
	read, err := s.TriggerByID(t.Context(), trigger.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, trigger)
	if _, err := s.UpdateTrigger(t.Context(), &model.Trigger{ID: trigger.ID, Source: "/free", Name: "trigger"}); err != nil {
		t.Errorf("a source that only another app has: %v", err)
	}
}

func removeTriggerFrees(t *testing.T, s store.Store) {
	fn := newFn(t, s, newApp(t, s, "app"), "fn")
	trigger := newTrigger(t, s, fn, "trigger", "/a")
	if err := s.RemoveTrigger(t.Context(), trigger.ID); err != nil {
		t.Fatal(err)
	}
	_, err := s.TriggerByID(t.Context(), trigger.ID)
	wantKind(t, err, model.ErrTriggerNotFound)
	wantKind(t, s.RemoveTrigger(t.Context(), trigger.ID), model.ErrTriggerNotFound)
	newTrigger(t, s, fn, "trigger", "/a")
	if _, err := s.FnByID(t.Context(), fn.ID); err != nil {
		t.Error(err)
	}
}
