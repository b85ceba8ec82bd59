package model

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestClonesShareNothing(t *testing.T) {
	url := "tcp://logs:514"
	newApp := func() *App {
		text := url
		return &App{
			ID: "a", Name: "app", Config: Config{"k": "v"}, Annotations: Annotations{"n": json.RawMessage(`[1]`)},
			SyslogURL: &text, Shape: "GENERIC_X86",
		}
	}
	app := newApp()
	copied := app.Clone()
	if diff := cmp.Diff(app, copied); diff != "" {
		t.Errorf("the copy of an app differs (-app +copy)\n%s", diff)
	}
	copied.Config["k"], *copied.SyslogURL, copied.Annotations["n"][1] = "other", "other", '2'
	if diff := cmp.Diff(newApp(), app); diff != "" {
		t.Errorf("a change of the copy reached the app (-was +is)\n%s", diff)
	}

	newFn := func() *Fn {
		return &Fn{ID: "f", AppID: "a", Memory: 64, Config: Config{"k": "v"}, Annotations: Annotations{"n": json.RawMessage(`1`)}}
	}
	fn := newFn()
	changed := fn.Clone()
	if diff := cmp.Diff(fn, changed); diff != "" {
		t.Errorf("the copy of a function differs (-fn +copy)\n%s", diff)
	}
	changed.Config["k"], changed.Annotations["n"][0] = "other", '2'
	if diff := cmp.Diff(newFn(), fn); diff != "" {
		t.Errorf("a change of the copy reached the function (-was +is)\n%s", diff)
	}

	trigger := &Trigger{ID: "t", Annotations: Annotations{"n": json.RawMessage(`1`)}}
	other := trigger.Clone()
	other.Annotations["n"][0] = '2'
	if string(trigger.Annotations["n"]) != "1" || other.ID != "t" {
		t.Errorf("got %+v of %+v", other, trigger)
	}
	if (*App)(nil).Clone() != nil || (*Fn)(nil).Clone() != nil || (*Trigger)(nil).Clone() != nil {
		t.Error("nothing has a copy")
	}
	if bare := (&Fn{}).Clone(); bare.Config != nil || bare.Annotations != nil {
		t.Errorf("nothing became something: %+v", bare)
	}
}
