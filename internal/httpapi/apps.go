package httpapi

import (
	"net/http"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

func (a *api) listApps(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	apps, err := a.store.ListApps(r.Context(), model.AppFilter{Name: query.Get("name"), Page: page(query)})
	if err != nil {
		return err
	}
	return edge.WriteJSON(w, http.StatusOK, apps)
}

func (a *api) createApp(w http.ResponseWriter, r *http.Request) error {
	var app model.App
	if err := a.decode(r, &app); err != nil {
		return err
	}
	app.NormalizeNew()
	created, err := a.store.InsertApp(r.Context(), &app)
	if err != nil {
		return err
	}
	return edge.WriteJSON(w, http.StatusOK, created)
}

func (a *api) getApp(w http.ResponseWriter, r *http.Request) error {
	app, err := a.store.AppByID(r.Context(), edge.Param(r, "app_id"))
	if err != nil {
		return err
	}
	return edge.WriteJSON(w, http.StatusOK, app)
}

func (a *api) updateApp(w http.ResponseWriter, r *http.Request) error {
	var patch model.App
	if err := a.decode(r, &patch); err != nil {
		return err
	}
	id := edge.Param(r, "app_id")
	if patch.ID != "" && patch.ID != id {
		return model.ErrAppIDMismatch
	}
	patch.ID = id
	updated, err := a.store.UpdateApp(r.Context(), &patch)
	if err != nil {
		return err
	}
	return edge.WriteJSON(w, http.StatusOK, updated)
}

func (a *api) deleteApp(w http.ResponseWriter, r *http.Request) error {
	if err := a.store.RemoveApp(r.Context(), edge.Param(r, "app_id")); err != nil {
		return err
	}
	return deleted(w)
}
