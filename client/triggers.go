package client

import (
	"context"
	"iter"
	"net/http"
	"strings"

	"github.com/tinefn/tine/model"
)

// Trigger returns the trigger with that ID. Errors: model.ErrTriggerNotFound and
// those of the package.
func (c *Client) Trigger(ctx context.Context, id string) (*model.Trigger, error) {
	if id == "" {
		return nil, model.ErrTriggerMissingID
	}
	trigger := new(model.Trigger)
	return answer(trigger, c.do(ctx, http.MethodGet, at("triggers", id), nil, trigger))
}

// TriggerBySource returns the trigger of an app with exactly that type and source,
// which begins with a slash. Errors: model.ErrTriggerNotFound and those of the
// package.
func (c *Client) TriggerBySource(ctx context.Context, appID, triggerType, source string) (*model.Trigger, error) {
	switch {
	case appID == "":
		return nil, model.ErrTriggerMissingAppID
	case triggerType == "":
		return nil, model.ErrTriggerType
	case source == "":
		return nil, model.ErrTriggerMissingSource
	}
	// The source's own slashes stay what they are: that of /hot is asked for as
	// .../triggerBySource/http//hot.
	segments := append([]string{"runner", "apps", appID, "triggerBySource", triggerType}, strings.Split(source, "/")...)
	trigger := new(model.Trigger)
	return answer(trigger, c.do(ctx, http.MethodGet, at(segments...), nil, trigger))
}

// ListTriggers returns one page of an app's triggers, ordered by name; see
// [Client.ListApps].
func (c *Client) ListTriggers(ctx context.Context, filter model.TriggerFilter) (model.Page[*model.Trigger], error) {
	var page model.Page[*model.Trigger]
	where := query(filter.Page, "app_id", filter.AppID, "fn_id", filter.FnID, "name", filter.Name)
	err := c.do(ctx, http.MethodGet, at("triggers").with(where), nil, &page)
	return page, err
}

// Triggers returns all triggers that the filter selects, from its page on. It ends
// with the first error.
func (c *Client) Triggers(ctx context.Context, filter model.TriggerFilter) iter.Seq2[*model.Trigger, error] {
	return each(ctx, filter.Page, func(ctx context.Context, page model.PageRequest) (model.Page[*model.Trigger], error) {
		filter.Page = page
		return c.ListTriggers(ctx, filter)
	})
}

// CreateTrigger creates a trigger and returns it as the server keeps it.
func (c *Client) CreateTrigger(ctx context.Context, trigger *model.Trigger) (*model.Trigger, error) {
	made := new(model.Trigger)
	return answer(made, c.do(ctx, http.MethodPost, at("triggers"), trigger, made))
}

// UpdateTrigger merges patch into the trigger that its ID names; see
// [Client.UpdateApp].
func (c *Client) UpdateTrigger(ctx context.Context, patch *model.Trigger) (*model.Trigger, error) {
	if patch.ID == "" {
		return nil, model.ErrTriggerMissingID
	}
	changed := new(model.Trigger)
	return answer(changed, c.do(ctx, http.MethodPut, at("triggers", patch.ID), patch, changed))
}

// DeleteTrigger deletes a trigger.
func (c *Client) DeleteTrigger(ctx context.Context, id string) error {
	if id == "" {
		return model.ErrTriggerMissingID
	}
	return c.do(ctx, http.MethodDelete, at("triggers", id), nil, nil)
}
