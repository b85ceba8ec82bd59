package storetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/model"
)

var annotationRules = []rule{
	{"values come back as they were given", annotationsAreVerbatim},
	{"null and empty text are refused on create", emptyAnnotationsAreRefused},
	{"null and empty text delete on update", emptyAnnotationsDelete},
	{"long values stay valid", longAnnotationsStayValid},
	{"the number is limited after the merge", annotationsAreCounted},
}

func annotationsAreVerbatim(t *testing.T, s store.Store) {
	values := []string{
		`{"z":1,"a":{"y":null,"b":[]}}`, `[3,2,1]`, `"<&>"`, `"\u003c"`, `"é日本\u2028"`, `"` + "\u2028" + `"`, `1e400`, `1.0`, `true`, `false`, `{}`, `[]`, `" "`,
	}
	given := model.Annotations{}
	for i, value := range values {
		given[fmt.Sprintf("key-%d/~!", i)] = []byte(value)
	}
	app, err := s.InsertApp(t.Context(), &model.App{Name: "app", Annotations: given})
	if err != nil {
		t.Fatal(err)
	}
	fn, err := s.InsertFn(t.Context(), &model.Fn{Name: "fn", AppID: app.ID, Image: "image", Annotations: given})
	if err != nil {
		t.Fatal(err)
	}
	trigger := triggerFor(fn, "trigger", "/t")
	trigger.Annotations = given
	if trigger, err = s.InsertTrigger(t.Context(), trigger); err != nil {
		t.Fatal(err)
	}
	readApp, err1 := s.AppByID(t.Context(), app.ID)
	readFn, err2 := s.FnByID(t.Context(), fn.ID)
	readTrigger, err3 := s.TriggerByID(t.Context(), trigger.ID)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for _, got := range []model.Annotations{readApp.Annotations, readFn.Annotations, readTrigger.Annotations} {
		wantSame(t, got, given)
	}
}

func emptyAnnotationsAreRefused(t *testing.T, s store.Store) {
	fn := newFn(t, s, newApp(t, s, "app"), "fn")
	for _, value := range []string{"null", `""`} {
		annotations := model.Annotations{"fine": []byte("1"), "empty": []byte(value)}
		_, err := s.InsertApp(t.Context(), &model.App{Name: "other", Annotations: annotations})
		wantKind(t, err, model.ErrAnnotationValue)
		_, err = s.InsertFn(t.Context(), &model.Fn{Name: "other", AppID: fn.AppID, Image: "image", Annotations: annotations})
		wantKind(t, err, model.ErrAnnotationValue)
		trigger := triggerFor(fn, "trigger", "/t")
		trigger.Annotations = annotations
		_, err = s.InsertTrigger(t.Context(), trigger)
		wantKind(t, err, model.ErrAnnotationValue)
	}
}

func emptyAnnotationsDelete(t *testing.T, s store.Store) {
	fn := newFn(t, s, newApp(t, s, "app"), "fn")
	trigger := newTrigger(t, s, fn, "trigger", "/t")
	update := func(values model.Annotations) {
		t.Helper()
		_, err1 := s.UpdateApp(t.Context(), &model.App{ID: fn.AppID, Annotations: values})
		_, err2 := s.UpdateFn(t.Context(), &model.Fn{ID: fn.ID, Annotations: values})
		_, err3 := s.UpdateTrigger(t.Context(), &model.Trigger{ID: trigger.ID, Annotations: values})
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatal(err1, err2, err3)
		}
	}
	update(model.Annotations{"a": []byte("1"), "b": []byte("2"), "c": []byte("3")})
	update(model.Annotations{"a": []byte("null"), "b": []byte(`""`), "absent": []byte("null")})
	app, err1 := s.AppByID(t.Context(), fn.AppID)
	fn, err2 := s.FnByID(t.Context(), fn.ID)
	trigger, err3 := s.TriggerByID(t.Context(), trigger.ID)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for _, got := range []model.Annotations{app.Annotations, fn.Annotations, trigger.Annotations} {
		wantSame(t, got, model.Annotations{"c": []byte("3")})
	}
}

// A value of the greatest length must not grow by the way it is kept, or no
// later update would pass.
func longAnnotationsStayValid(t *testing.T, s store.Store) {
	value := []byte(`"` + strings.Repeat("<", model.MaxAnnotationValueBytes-2) + `"`)
	app, err := s.InsertApp(t.Context(), &model.App{Name: "app", Annotations: model.Annotations{"k": value}})
	if err != nil {
		t.Fatal(err)
	}
	updated, err := s.UpdateApp(t.Context(), &model.App{ID: app.ID, Config: model.Config{"K": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, updated.Annotations, model.Annotations{"k": value})
}

func annotationsAreCounted(t *testing.T, s store.Store) {
	full := model.Annotations{}
	for i := range model.MaxAnnotations {
		full[fmt.Sprintf("key%d", i)] = []byte("1")
	}
	app, err := s.InsertApp(t.Context(), &model.App{Name: "app", Annotations: full})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.UpdateApp(t.Context(), &model.App{ID: app.ID, Annotations: model.Annotations{"more": []byte("1")}})
	wantKind(t, err, model.ErrAnnotationTooMany)
	updated, err := s.UpdateApp(t.Context(), &model.App{
		ID: app.ID, Annotations: model.Annotations{"more": []byte("1"), "key0": []byte("null")},
	})
	if err != nil || len(updated.Annotations) != model.MaxAnnotations {
		t.Errorf("replace one: %v", err)
	}
}
