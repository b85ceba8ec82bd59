package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/tinefn/tine/model"
)

// Fn returns the function with that ID. Errors: model.ErrFnNotFound and those of
// the package.
func (c *Client) Fn(ctx context.Context, id string) (*model.Fn, error) {
	if id == "" {
		return nil, model.ErrFnMissingID
	}
	fn := new(model.Fn)
	return answer(fn, c.do(ctx, http.MethodGet, at("fns", id), nil, fn))
}

// FnByName returns the function of an app with exactly that name. Errors:
// model.ErrFnNotFound, also if there is no such app, and those of the package.
func (c *Client) FnByName(ctx context.Context, appID, name string) (*model.Fn, error) {
	if name == "" {
		return nil, model.ErrFnMissingName
	}
	page, err := c.ListFns(ctx, model.FnFilter{AppID: appID, Name: name})
	if err != nil {
		return nil, err
	}
	for _, fn := range page.Items {
		if fn.Name == name {
			return fn, nil
		}
	}
	return nil, model.ErrFnNotFound
}

// ListFns returns one page of an app's functions, ordered by name; see
// [Client.ListApps].
func (c *Client) ListFns(ctx context.Context, filter model.FnFilter) (model.Page[*model.Fn], error) {
	var page model.Page[*model.Fn]
	err := c.do(ctx, http.MethodGet, at("fns").with(query(filter.Page, "app_id", filter.AppID, "name", filter.Name)), nil, &page)
	return page, err
}

// Fns returns all functions that the filter selects, from its page on. It ends
// with the first error.
func (c *Client) Fns(ctx context.Context, filter model.FnFilter) iter.Seq2[*model.Fn, error] {
	return each(ctx, filter.Page, func(ctx context.Context, page model.PageRequest) (model.Page[*model.Fn], error) {
		filter.Page = page
		return c.ListFns(ctx, filter)
	})
}

// CreateFn creates a function of the app that its AppID names and returns it as
// the server keeps it, with its defaults.
func (c *Client) CreateFn(ctx context.Context, fn *model.Fn) (*model.Fn, error) {
	made := new(model.Fn)
	return answer(made, c.do(ctx, http.MethodPost, at("fns"), fn, made))
}

// UpdateFn merges patch into the function that its ID names; see
// [Client.UpdateApp].
func (c *Client) UpdateFn(ctx context.Context, patch *model.Fn) (*model.Fn, error) {
	if patch.ID == "" {
		return nil, model.ErrFnMissingID
	}
	changed := new(model.Fn)
	return answer(changed, c.do(ctx, http.MethodPut, at("fns", patch.ID), patch, changed))
}

// DeleteFn deletes a function with its triggers.
func (c *Client) DeleteFn(ctx context.Context, id string) error {
	if id == "" {
		return model.ErrFnMissingID
	}
	return c.do(ctx, http.MethodDelete, at("fns", id), nil, nil)
}
