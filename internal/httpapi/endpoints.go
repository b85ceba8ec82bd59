package httpapi

import (
	"errors"
	"maps"
	"net/http"
	"strings"

	"github.com/tinefn/tine/model"
)

// Fn clients find out where to send invocations only from annotations that the
// server adds to its responses. They are made for each response and not stored,
// so a change of the public URL is effective at once.

// baseURL is what endpoints begin with: the configured URL, or the one that the
// client has used for this request.
func (a *api) baseURL(r *http.Request) string {
	switch {
	case a.base != "":
		return a.base
	case r.TLS != nil:
		return "https://" + r.Host
	default:
		return "http://" + r.Host
	}
}

// withInvokeEndpoint returns a copy of fn as clients see it.
func (a *api) withInvokeEndpoint(r *http.Request, fn *model.Fn) (*model.Fn, error) {
	annotations, err := fn.Annotations.With(model.AnnotationInvokeEndpoint, a.baseURL(r)+"/invoke/"+fn.ID)
	if err != nil {
		return nil, err
	}
	shown := *fn
	shown.Annotations = annotations
	if shown.Config == nil {
		shown.Config = model.Config{} // clients get {}, never null
	}
	if a.annotateFn != nil {
		shown.Config = maps.Clone(shown.Config)
		if err := a.annotateFn(r, &shown); err != nil {
			return nil, err
		}
	}
	return &shown, nil
}

// withHTTPEndpoints returns copies of triggers of one app as clients see them.
// The app is read once, for its name.
func (a *api) withHTTPEndpoints(r *http.Request, appID string, triggers ...*model.Trigger) ([]*model.Trigger, error) {
	shown := make([]*model.Trigger, len(triggers))
	copy(shown, triggers)
	if len(triggers) == 0 {
		return shown, nil
	}
	app, err := a.store.AppByID(r.Context(), appID)
	if errors.Is(err, model.ErrAppNotFound) {
		// Removed since the triggers were read; they are gone with their endpoints.
		return shown, nil
	}
	if err != nil {
		return nil, err
	}
	base := a.baseURL(r) + "/t/" + app.Name + "/"
	for i, trigger := range triggers {
		annotated := trigger.Clone()
		if trigger.Type == model.TriggerTypeHTTP {
			annotated.Annotations, err = trigger.Annotations.With(model.AnnotationHTTPEndpoint, base+strings.TrimPrefix(trigger.Source, "/"))
			if err != nil {
				return nil, err
			}
		}
		if a.annotateTrigger != nil {
			if err := a.annotateTrigger(r, app, annotated); err != nil {
				return nil, err
			}
		}
		shown[i] = annotated
	}
	return shown, nil
}
