package httpapi

import (
	"net/http"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

func (a *api) listTriggers(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	filter := model.TriggerFilter{
		AppID: query.Get("app_id"), FnID: query.Get("fn_id"), Name: query.Get("name"), Page: page(query),
	}
	if filter.AppID == "" {
		return model.ErrTriggerMissingAppID
	}
	triggers, err := a.store.ListTriggers(r.Context(), filter)
	if err != nil {
		return err
	}
	shown, err := a.withHTTPEndpoints(r, filter.AppID, triggers.Items...)
	if err != nil {
		return err
	}
	return edge.WriteJSON(w, http.StatusOK, model.Page[*model.Trigger]{NextCursor: triggers.NextCursor, Items: shown})
}

func (a *api) createTrigger(w http.ResponseWriter, r *http.Request) error {
	var trigger model.Trigger
	if err := a.decode(r, &trigger); err != nil {
		return err
	}
	trigger.NormalizeNew()
	created, err := a.store.InsertTrigger(r.Context(), &trigger)
	if err != nil {
		return err
	}
	return a.writeTrigger(w, r, created)
}

func (a *api) getTrigger(w http.ResponseWriter, r *http.Request) error {
	trigger, err := a.store.TriggerByID(r.Context(), edge.Param(r, "trigger_id"))
	if err != nil {
		return err
	}
	return a.writeTrigger(w, r, trigger)
}

func (a *api) updateTrigger(w http.ResponseWriter, r *http.Request) error {
	var patch model.Trigger
	if err := a.decode(r, &patch); err != nil {
		return err
	}
	id := edge.Param(r, "trigger_id")
	if patch.ID != "" && patch.ID != id {
		return model.ErrTriggerIDMismatch
	}
	patch.ID = id
	updated, err := a.store.UpdateTrigger(r.Context(), &patch)
	if err != nil {
		return err
	}
	return a.writeTrigger(w, r, updated)
}

func (a *api) deleteTrigger(w http.ResponseWriter, r *http.Request) error {
	if err := a.store.RemoveTrigger(r.Context(), edge.Param(r, "trigger_id")); err != nil {
		return err
	}
	return deleted(w)
}

func (a *api) writeTrigger(w http.ResponseWriter, r *http.Request, trigger *model.Trigger) error {
	shown, err := a.withHTTPEndpoints(r, trigger.AppID, trigger)
	if err != nil {
		return err
	}
	return edge.WriteJSON(w, http.StatusOK, shown[0])
}
