package httpapi

import (
	"net/http"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

func (a *api) listFns(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	filter := model.FnFilter{AppID: query.Get("app_id"), Name: query.Get("name"), Page: page(query)}
	if filter.AppID == "" {
		return model.ErrFnMissingAppID
	}
	fns, err := a.store.ListFns(r.Context(), filter)
	if err != nil {
		return err
	}
	shown := model.Page[*model.Fn]{NextCursor: fns.NextCursor, Items: make([]*model.Fn, len(fns.Items))}
	for i, fn := range fns.Items {
		if shown.Items[i], err = a.withInvokeEndpoint(r, fn); err != nil {
			return err
		}
	}
	return edge.WriteJSON(w, http.StatusOK, shown)
}

func (a *api) createFn(w http.ResponseWriter, r *http.Request) error {
	var fn model.Fn
	if err := a.decode(r, &fn); err != nil {
		return err
	}
	fn.NormalizeNew()
	created, err := a.store.InsertFn(r.Context(), &fn)
	if err != nil {
		return err
	}
	return a.writeFn(w, r, created)
}

func (a *api) getFn(w http.ResponseWriter, r *http.Request) error {
	fn, err := a.store.FnByID(r.Context(), edge.Param(r, "fn_id"))
	if err != nil {
		return err
	}
	return a.writeFn(w, r, fn)
}

func (a *api) updateFn(w http.ResponseWriter, r *http.Request) error {
	var patch model.Fn
	if err := a.decode(r, &patch); err != nil {
		return err
	}
	id := edge.Param(r, "fn_id")
	if patch.ID != "" && patch.ID != id {
		return model.ErrFnIDMismatch
	}
	patch.ID = id
	updated, err := a.store.UpdateFn(r.Context(), &patch)
	if err != nil {
		return err
	}
	return a.writeFn(w, r, updated)
}

func (a *api) deleteFn(w http.ResponseWriter, r *http.Request) error {
	if err := a.store.RemoveFn(r.Context(), edge.Param(r, "fn_id")); err != nil {
		return err
	}
	return deleted(w)
}

func (a *api) writeFn(w http.ResponseWriter, r *http.Request, fn *model.Fn) error {
	shown, err := a.withInvokeEndpoint(r, fn)
	if err != nil {
		return err
	}
	return edge.WriteJSON(w, http.StatusOK, shown)
}
