package storetest

import (
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/model"
)

var fnRules = []rule{
	{"insert returns a new function and reads return the same", insertedFnIsKept},
	{"insert fills in defaults", insertFnDefaults},
	{"insert copies the shape of the app", fnShapeIsTheApps},
	{"invalid functions are refused", invalidFnsAreRefused},
	{"names are unique within an app", fnNamesAreUnique},
	{"unknown and empty identifiers", unknownFns},
	{"update merges", updateFnMerges},
	{"update without a change keeps updated_at", idleFnUpdate},
	{"a refused update changes nothing", refusedFnUpdate},
	{"remove takes triggers along", removeFnCascades},
}

func insertedFnIsKept(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	given := &model.Fn{
		Name: "fn", AppID: app.ID, Image: "registry:5000/a/b@sha256:00", Memory: 8192, Timeout: 300, IdleTimeout: 3600,
		Config:      model.Config{"KEY": "value", "EMPTY": ""},
		Annotations: model.Annotations{"tags": []byte(`{"b":1,"a":[true,null]}`)},
	}
	before := copyOf(t, given)
	fn, err := s.InsertFn(t.Context(), given)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, given, before)
	wantNew(t, fn.ID, fn.CreatedAt, fn.UpdatedAt)
	want := copyOf(t, given)
	want.ID, want.CreatedAt, want.UpdatedAt = fn.ID, fn.CreatedAt, fn.UpdatedAt
	wantSame(t, fn, want)
	read, err := s.FnByID(t.Context(), fn.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, want)

	fn.Config["KEY"] = "changed"
	delete(fn.Annotations, "tags")
	wantSame(t, given, before)
}

func insertFnDefaults(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	given := &model.Fn{
		Name: "fn", AppID: app.ID, Image: "image", CreatedAt: model.Timestamp{Time: model.Now().AddDate(-1, 0, 0)},
		Annotations: model.Annotations{model.AnnotationInvokeEndpoint: []byte(`"http://stale"`)},
	}
	fn, err := s.InsertFn(t.Context(), given)
	if err != nil {
		t.Fatal(err)
	}
	wantNew(t, fn.ID, fn.CreatedAt, fn.UpdatedAt)
	want := &model.Fn{
		ID: fn.ID, Name: "fn", AppID: app.ID, Image: "image", Memory: 128, Timeout: 30, IdleTimeout: 30,
		CreatedAt: fn.CreatedAt, UpdatedAt: fn.UpdatedAt,
	}
	wantSame(t, fn, want)
	read, err := s.FnByID(t.Context(), fn.ID)
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.ListFns(t.Context(), model.FnFilter{AppID: app.ID})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	updated, err := s.UpdateFn(t.Context(), &model.Fn{ID: fn.ID})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []*model.Fn{fn, read, page.Items[0], updated} {
		wantSame(t, got, want)
		if got.Config == nil {
			t.Error("an empty config is nil")
		}
	}
	if given.Config != nil || given.Memory != 0 {
		t.Errorf("the argument has changed: %+v", given)
	}
	_, err = s.InsertFn(t.Context(), nil)
	if d := model.Describe(err); d.Text != "Missing Fn" || d.Status != 400 {
		t.Errorf("no function: %v", err)
	}
}

func fnShapeIsTheApps(t *testing.T, s store.Store) {
	app, err := s.InsertApp(t.Context(), &model.App{Name: "app", Shape: "GENERIC_ARM"})
	if err != nil {
		t.Fatal(err)
	}
	fn, err := s.InsertFn(t.Context(), &model.Fn{Name: "fn", AppID: app.ID, Image: "image", Shape: "GENERIC_X86"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateFn(t.Context(), &model.Fn{ID: fn.ID, Shape: "GENERIC_X86", Memory: 64}); err != nil {
		t.Fatal(err)
	}
	read, err := s.FnByID(t.Context(), fn.ID)
	if err != nil || fn.Shape != "GENERIC_ARM" || read.Shape != "GENERIC_ARM" {
		t.Errorf("inserted %q, read %q, %v", fn.Shape, read.Shape, err)
	}
	shapeless, err := s.InsertFn(t.Context(), &model.Fn{Name: "fn", AppID: newApp(t, s, "other").ID, Image: "image", Shape: "GENERIC_X86"})
	if err != nil || shapeless.Shape != "" {
		t.Errorf("%+v, %v", shapeless, err)
	}
}

func invalidFnsAreRefused(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	newFn(t, s, app, "taken")
	fn := func(change func(*model.Fn)) *model.Fn {
		fn := &model.Fn{Name: "taken", AppID: "unknown", Image: "image"}
		change(fn)
		return fn
	}
	for _, test := range []struct {
		fn   *model.Fn
		want model.Kind
	}{
		{&model.Fn{ID: "id"}, model.ErrFnIDProvided},
		{&model.Fn{}, model.ErrFnMissingAppID},
		{fn(func(f *model.Fn) { f.Name = "" }), model.ErrFnMissingName},
		{fn(func(f *model.Fn) { f.Name = strings.Repeat("/", 256) }), model.ErrFnNameTooLong},
		{fn(func(f *model.Fn) { f.Name, f.Image = "a/b", "" }), model.ErrFnInvalidName},
		{fn(func(f *model.Fn) { f.Image, f.Timeout = "", -1 }), model.ErrFnMissingImage},
		{fn(func(f *model.Fn) { f.Timeout, f.IdleTimeout = 301, -1 }), model.ErrFnTimeout},
		{fn(func(f *model.Fn) { f.IdleTimeout, f.Memory = 3601, 8193 }), model.ErrFnIdleTimeout},
		{fn(func(f *model.Fn) { f.Memory, f.Annotations = 8193, model.Annotations{"": nil} }), model.ErrFnMemory},
		{fn(func(f *model.Fn) { f.Annotations = model.Annotations{"k": []byte("null")} }), model.ErrAnnotationValue},
		{fn(func(*model.Fn) {}), model.ErrAppNotFound},
		{fn(func(f *model.Fn) { f.AppID = app.ID }), model.ErrFnAlreadyExists},
	} {
		_, err := s.InsertFn(t.Context(), test.fn)
		wantKind(t, err, test.want)
	}
	page, err := s.ListFns(t.Context(), model.FnFilter{AppID: app.ID})
	if err != nil {
		t.Fatal(err)
	}
	wantNames(t, fnNames(page.Items), "taken")
}

func fnNamesAreUnique(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	first := newFn(t, s, app, "fn")
	newFn(t, s, app, "FN")
	newFn(t, s, newApp(t, s, "other"), "fn")
	_, err := s.InsertFn(t.Context(), &model.Fn{Name: "fn", AppID: app.ID, Image: "image"})
	wantKind(t, err, model.ErrFnAlreadyExists)
	if err := s.RemoveFn(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	newFn(t, s, app, "fn")
}

func unknownFns(t *testing.T, s store.Store) {
	for id, want := range map[string]model.Kind{"": model.ErrFnMissingID, "unknown": model.ErrFnNotFound} {
		_, err := s.FnByID(t.Context(), id)
		wantKind(t, err, want)
		_, err = s.UpdateFn(t.Context(), &model.Fn{ID: id, Image: "image"})
		wantKind(t, err, want)
		wantKind(t, s.RemoveFn(t.Context(), id), want)
	}
}

func updateFnMerges(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	old, err := s.InsertFn(t.Context(), &model.Fn{
		Name: "fn", AppID: app.ID, Image: "image:1",
		Config:      model.Config{"keep": "1", "change": "1", "drop": "1"},
		Annotations: model.Annotations{"keep": []byte("1"), "drop": []byte("1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	patch := &model.Fn{
		ID: old.ID, Name: "renamed", AppID: "elsewhere", Image: "image:2", Memory: 256, Timeout: 60, IdleTimeout: 90,
		Config:      model.Config{"change": "2", "drop": "", "add": "2"},
		Annotations: model.Annotations{"drop": []byte("null"), "add": []byte("2")},
	}
	before := copyOf(t, patch)
	updated, err := s.UpdateFn(t.Context(), patch)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, patch, before)
	wantSame(t, updated, &model.Fn{
		ID: old.ID, Name: "fn", AppID: app.ID, Image: "image:2", Memory: 256, Timeout: 60, IdleTimeout: 90,
		Config:      model.Config{"keep": "1", "change": "2", "add": "2"},
		Annotations: model.Annotations{"keep": []byte("1"), "add": []byte("2")},
		CreatedAt:   old.CreatedAt, UpdatedAt: updated.UpdatedAt,
	})
	wantChanged(t, updated.CreatedAt, updated.UpdatedAt, old.CreatedAt, old.UpdatedAt)
	read, err := s.FnByID(t.Context(), old.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, updated)
}

func idleFnUpdate(t *testing.T, s store.Store) {
	fn, err := s.InsertFn(t.Context(), &model.Fn{
		Name: "fn", AppID: newApp(t, s, "app").ID, Image: "image", Memory: 64, Config: model.Config{"K": "a&b"},
		Annotations: model.Annotations{"k": []byte(`"a&b"`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	whole := copyOf(t, fn)
	whole.Annotations[model.AnnotationInvokeEndpoint] = []byte(`"http://generated"`)
	for _, patch := range []*model.Fn{{ID: fn.ID}, {ID: fn.ID, Name: "other", AppID: "other"}, whole} {
		updated, err := s.UpdateFn(t.Context(), patch)
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, updated, fn)
	}
	read, err := s.FnByID(t.Context(), fn.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, fn)
}

func refusedFnUpdate(t *testing.T, s store.Store) {
	fn := newFn(t, s, newApp(t, s, "app"), "fn")
	for _, test := range []struct {
		patch model.Fn
		want  model.Kind
	}{
		{model.Fn{Image: "other", Memory: 8193}, model.ErrFnMemory},
		{model.Fn{Image: "other", Timeout: -1}, model.ErrFnTimeout},
		{model.Fn{Image: "other", IdleTimeout: 3601}, model.ErrFnIdleTimeout},
		{model.Fn{Image: strings.Repeat("i", 257)}, model.ErrFnImageTooLong},
	} {
		test.patch.ID = fn.ID
		_, err := s.UpdateFn(t.Context(), &test.patch)
		wantKind(t, err, test.want)
	}
	read, err := s.FnByID(t.Context(), fn.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, read, fn)
}

func removeFnCascades(t *testing.T, s store.Store) {
	app := newApp(t, s, "app")
	doomed, kept := newFn(t, s, app, "doomed"), newFn(t, s, app, "kept")
	doomedTrigger, keptTrigger := newTrigger(t, s, doomed, "trigger", "/doomed"), newTrigger(t, s, kept, "trigger", "/kept")
	if err := s.RemoveFn(t.Context(), doomed.ID); err != nil {
		t.Fatal(err)
	}
	_, err := s.FnByID(t.Context(), doomed.ID)
	wantKind(t, err, model.ErrFnNotFound)
	_, err = s.TriggerByID(t.Context(), doomedTrigger.ID)
	wantKind(t, err, model.ErrTriggerNotFound)
	wantKind(t, s.RemoveFn(t.Context(), doomed.ID), model.ErrFnNotFound)
	newTrigger(t, s, kept, "again", "/doomed")
	if _, err := s.TriggerByID(t.Context(), keptTrigger.ID); err != nil {
		t.Error(err)
	}
}
