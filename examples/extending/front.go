package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/tinefn/tine/model"
)

// checkName refuses apps that are named like what belongs to the provider.
func checkName(_ context.Context, app *model.App) error {
	if strings.HasPrefix(app.Name, "system-") {
		return &model.Error{
			Kind: model.ErrAppInvalidName, Status: http.StatusForbidden,
			Message: "App names that begin with system- are the provider's",
		}
	}
	return nil
}

// listPlans tells clients which plans there are.
func listPlans(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(plans) // who does not get it has left
}

// signed adds a header to every response, also of requests that fail.
func signed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "extending")
		next.ServeHTTP(w, r)
	})
}
