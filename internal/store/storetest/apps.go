package storetest

import (
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/model"
)

var appRules = []rule{
	{"insert returns a new app and reads return the same", insertedAppIsKept},
	{"insert drops what clients cannot set", insertAppNormalizes},
	{"invalid apps are refused", invalidAppsAreRefused},
	{"names are unique and exact", appNamesAreUnique},
	{"unknown and empty identifiers", unknownApps},
	{"update merges", updateAppMerges},
	{"update without a change keeps updated_at", idleAppUpdate},
	{"a refused update changes nothing", refusedAppUpdate},
	{"remove takes functions and triggers along", removeAppCascades},
}

func insertedAppIsKept(t *testing.T, s store.Store) {
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	given := &model.App{
		Name: "app", Shape: "GENERIC_ARM", SyslogURL: new("udp://logs:514"),
		Config:      model.Config{"KEY": "value", "EMPTY": ""},
		Annotations: model.Annotations{"tags": []byte(`{"b":1,"a":[true,null]}`)},
	}
	before := copyOf(t, given)
	app, err := s.InsertApp(t.Context(), given)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, given, before)
	wantNew(t, app.ID, app.CreatedAt, app.UpdatedAt)
	want := copyOf(t, given)
	want.ID, want.CreatedAt, want.UpdatedAt = app.ID, app.CreatedAt, app.UpdatedAt
	wantSame(t, app, want)

	read, err := s.AppByID(t.Context(), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, want)
	if id, err := s.AppIDByName(t.Context(), "app"); err != nil || id != app.ID {
		t.Errorf("by name: %q, %v", id, err)
	}

	app.Config["KEY"], *app.SyslogURL = "changed", "changed"
	delete(app.Annotations, "tags")
	wantSame(t, given, before)
}

func insertAppNormalizes(t *testing.T, s store.Store) {
	long := model.Now()
	long.Time = long.AddDate(-1, 0, 0)
	app, err := s.InsertApp(t.Context(), &model.App{
		Name: "app", SyslogURL: new(""), CreatedAt: long, UpdatedAt: long,
		Annotations: model.Annotations{model.AnnotationInvokeEndpoint: []byte(`"http://stale"`), "kept": []byte("1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantNew(t, app.ID, app.CreatedAt, app.UpdatedAt)
	read, err := s.AppByID(t.Context(), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, app)
	if read.SyslogURL != nil || len(read.Annotations) != 1 {
		t.Errorf("%+v", read)
	}
}

func invalidAppsAreRefused(t *testing.T, s store.Store) {
	newApp(t, s, "taken")
	for _, test := range []struct {
		app  model.App
		want model.Kind
	}{
		{model.App{ID: "id", Name: ""}, model.ErrAppIDProvided},
		{model.App{Annotations: model.Annotations{"": nil}}, model.ErrAppMissingName},
		{model.App{Name: strings.Repeat("n", 256)}, model.ErrAppNameTooLong},
		{model.App{Name: "no spaces"}, model.ErrAppInvalidName},
		{model.App{Name: "taken", Annotations: model.Annotations{" ": []byte("1")}, SyslogURL: new("x://")}, model.ErrAnnotationKey},
		{model.App{Name: "taken", SyslogURL: new("x://"), Shape: "ROUND"}, model.ErrAppInvalidSyslogURL},
		{model.App{Name: "taken", Shape: "ROUND"}, model.ErrAppInvalidShape},
		{model.App{Name: "taken"}, model.ErrAppAlreadyExists},
	} {
		_, err := s.InsertApp(t.Context(), &test.app)
		wantKind(t, err, test.want)
	}
	page, err := s.ListApps(t.Context(), model.AppFilter{})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, appNames(page.Items), "taken")
}

func appNamesAreUnique(t *testing.T, s store.Store) {
	app := newApp(t, s, "name")
	_, err := s.InsertApp(t.Context(), &model.App{Name: "name"})
	wantKind(t, err, model.ErrAppAlreadyExists)
	other := newApp(t, s, "Name")
	for name, want := range map[string]string{"name": app.ID, "Name": other.ID} {
		if id, err := s.AppIDByName(t.Context(), name); err != nil || id != want {
			t.Errorf("%s: %q, %v", name, id, err)
		}
	}
	_, err = s.AppIDByName(t.Context(), "NAME")
	wantKind(t, err, model.ErrAppNotFound)
	if err := s.RemoveApp(t.Context(), app.ID); err != nil {
		t.Fatal(err)
	}
	if again := newApp(t, s, "name"); again.ID == app.ID {
		t.Error("an identifier was used twice")
	}
}

func unknownApps(t *testing.T, s store.Store) {
	for id, want := range map[string]model.Kind{"": model.ErrAppMissingID, "unknown": model.ErrAppNotFound} {
		_, err := s.AppByID(t.Context(), id)
		wantKind(t, err, want)
		_, err = s.UpdateApp(t.Context(), &model.App{ID: id, Config: model.Config{"K": "v"}})
		wantKind(t, err, want)
		wantKind(t, s.RemoveApp(t.Context(), id), want)
	}
	_, err := s.AppIDByName(t.Context(), "unknown")
	wantKind(t, err, model.ErrAppNotFound)
	if _, err = s.AppIDByName(t.Context(), ""); model.Describe(err).Text != "Missing app name" {
		t.Errorf("empty name: %v", err)
	}
}

func updateAppMerges(t *testing.T, s store.Store) {
	old, err := s.InsertApp(t.Context(), &model.App{
		Name: "app", Shape: "GENERIC_X86", SyslogURL: new("tcp://a"),
		Config:      model.Config{"keep": "1", "change": "1", "drop": "1"},
		Annotations: model.Annotations{"keep": []byte("1"), "change": []byte("1"), "drop": []byte("1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	patch := &model.App{
		ID: old.ID, Name: "app", Shape: "GENERIC_ARM", SyslogURL: new("tcp://b"),
		Config:      model.Config{"change": "2", "drop": "", "add": "2", "absent": ""},
		Annotations: model.Annotations{"change": []byte("2"), "drop": []byte(`""`), "add": []byte("[]")},
	}
	before := copyOf(t, patch)
	updated, err := s.UpdateApp(t.Context(), patch)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, patch, before)
	wantSame(t, updated, &model.App{
		ID: old.ID, Name: "app", Shape: "GENERIC_X86", SyslogURL: new("tcp://b"),
		Config:      model.Config{"keep": "1", "change": "2", "add": "2"},
		Annotations: model.Annotations{"keep": []byte("1"), "change": []byte("2"), "add": []byte("[]")},
		CreatedAt:   old.CreatedAt, UpdatedAt: updated.UpdatedAt,
	})
	wantChanged(t, updated.CreatedAt, updated.UpdatedAt, old.CreatedAt, old.UpdatedAt)

	cleared, err := s.UpdateApp(t.Context(), &model.App{ID: old.ID, SyslogURL: new("")})
	if err != nil || cleared.SyslogURL != nil {
		t.Errorf("cleared syslog URL: %+v, %v", cleared, err)
	}
	wantChanged(t, cleared.CreatedAt, cleared.UpdatedAt, updated.CreatedAt, updated.UpdatedAt)
	read, err := s.AppByID(t.Context(), old.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, cleared)
}

func idleAppUpdate(t *testing.T, s store.Store) {
	app, err := s.InsertApp(t.Context(), &model.App{
		Name: "app", SyslogURL: new("tcp://a"), Config: model.Config{"K": "<v>"},
		Annotations: model.Annotations{"k": []byte(`"<v>"`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, patch := range []*model.App{
		{ID: app.ID},
		{ID: app.ID, Config: model.Config{"absent": ""}, Annotations: model.Annotations{"absent": []byte("null")}},
		copyOf(t, app),
	} {
		updated, err := s.UpdateApp(t.Context(), patch)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, updated, app)
	}
	read, err := s.AppByID(t.Context(), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, app)
}

func refusedAppUpdate(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	for _, test := range []struct {
		patch model.App
		want  model.Kind
	}{
		{model.App{Name: "other", Config: model.Config{"K": "v"}}, model.ErrAppNameImmutable},
		{model.App{Config: model.Config{"K": "v"}, SyslogURL: new("ftp://x")}, model.ErrAppInvalidSyslogURL},
		{model.App{Config: model.Config{"K": "v"}, Annotations: model.Annotations{" ": []byte("1")}}, model.ErrAnnotationKey},
	} {
		test.patch.ID = app.ID
		_, err := s.UpdateApp(t.Context(), &test.patch)
		wantKind(t, err, test.want)
	}
	read, err := s.AppByID(t.Context(), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, app)
}

func removeAppCascades(t *testing.T, s store.Store) {
	doomed, kept := newApp(t, s, "doomed"), newApp(t, s, "kept")
	doomedFn, keptFn := newFn(t, s, doomed, "fn"), newFn(t, s, kept, "fn")
	doomedTrigger, keptTrigger := newTrigger(t, s, doomedFn, "trigger", "/t"), newTrigger(t, s, keptFn, "trigger", "/t")
	if err := s.RemoveApp(t.Context(), doomed.ID); err != nil {
		t.Fatal(err)
	}
	_, err := s.AppByID(t.Context(), doomed.ID)
	wantKind(t, err, model.ErrAppNotFound)
	_, err = s.FnByID(t.Context(), doomedFn.ID)
	wantKind(t, err, model.ErrFnNotFound)
	_, err = s.TriggerByID(t.Context(), doomedTrigger.ID)
	wantKind(t, err, model.ErrTriggerNotFound)
	_, err = s.TriggerBySource(t.Context(), doomed.ID, model.TriggerTypeHTTP, "/t")
	wantKind(t, err, model.ErrTriggerNotFound)
	wantKind(t, s.RemoveApp(t.Context(), doomed.ID), model.ErrAppNotFound)

	if _, err := s.FnByID(t.Context(), keptFn.ID); err != nil {
		t.Error(err)
	}
	if _, err := s.TriggerByID(t.Context(), keptTrigger.ID); err != nil {
		t.Error(err)
	}
}
