package httpapi

import (
	"net/http"

	"github.com/tinefn/tine/internal/edge"
)

// triggerBySource is how nodes without a store find the trigger of a request.
// The source begins with a slash of its own, after the one that ends the path
// before it: source "/hot" is asked for as ".../triggerBySource/http//hot".
func (a *api) triggerBySource(w http.ResponseWriter, r *http.Request) error {
	trigger, err := a.store.TriggerBySource(r.Context(), edge.Param(r, "app_id"), edge.Param(r, "trigger_type"), edge.Param(r, "*"))
	if err != nil {
		return err
	}
	return edge.WriteJSON(w, http.StatusOK, trigger)
}
