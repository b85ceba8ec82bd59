package main

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// plans are what an app can have, and how many thousandths of a processor each
// container of its functions gets.
var plans = map[string]int64{"bronze": 250, "gold": 1000}

// annotation is where an app says its plan, and extension where a call does.
const (
	annotation  = "example/plan"
	extension   = "plan"
	defaultPlan = "bronze"
)

// withPlan adds the plan to a call that has none yet. On a runner, which the call
// reaches after the load balancer, it has one. No client can set extensions.
func withPlan(_ *http.Request, call *invoke.Call, extensions map[string]string) (map[string]string, error) {
	if extensions[extension] != "" {
		return extensions, nil
	}
	plan := defaultPlan
	if value, ok := call.App.Annotations[annotation]; ok {
		if err := json.Unmarshal(value, &plan); err != nil || plans[plan] == 0 {
			return nil, &model.Error{
				Kind: model.ErrAnnotationValue, Status: http.StatusPaymentRequired,
				Message: "There is no plan " + string(value) + ", see /v2/plans",
			}
		}
	}
	with := map[string]string{extension: plan}
	maps.Copy(with, extensions)
	return with, nil
}

// planned is a driver whose containers get what their plan says.
type planned struct{ driver.Driver }

func byPlan(stock driver.Driver) driver.Driver { return planned{stock} }

// Create makes a container with an environment variable and a limit more. The spec is
// shared, so that a copy is changed.
func (d planned) Create(ctx context.Context, spec *driver.Spec) (driver.Container, error) {
	plan := spec.Extensions[extension]
	if plan == "" {
		return d.Driver.Create(ctx, spec)
	}
	changed := *spec
	changed.Env = append(slices.Clone(spec.Env), "PLAN="+plan)
	changed.Limits.MilliCPU = plans[plan]
	return d.Driver.Create(ctx, &changed)
}

// InstanceKey keeps calls of one plan out of the containers of another, when an app
// gets a new plan.
func (planned) InstanceKey(extensions map[string]string) string { return extensions[extension] }
