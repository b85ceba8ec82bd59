package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/tinefn/tine/model"
)

// App returns the app with that ID. Errors: model.ErrAppNotFound and those of the
// package.
func (c *Client) App(ctx context.Context, id string) (*model.App, error) {
	if id == "" {
		return nil, model.ErrAppMissingID
	}
	app := new(model.App)
	return answer(app, c.do(ctx, http.MethodGet, at("apps", id), nil, app))
}

// AppByName returns the app with exactly that name. Errors: model.ErrAppNotFound
// and those of the package.
func (c *Client) AppByName(ctx context.Context, name string) (*model.App, error) {
	if name == "" {
		return nil, model.ErrAppMissingName
	}
	page, err := c.ListApps(ctx, model.AppFilter{Name: name})
	if err != nil {
		return nil, err
	}
	for _, app := range page.Items { // databases may take names for equal that are not
		if app.Name == name {
			return app, nil
		}
	}
	return nil, model.ErrAppNotFound
}

// ListApps returns one page of apps, ordered by name. Of a page request the
// server makes what its limits allow: 30 items if none are asked for, 100 at most.
func (c *Client) ListApps(ctx context.Context, filter model.AppFilter) (model.Page[*model.App], error) {
	var page model.Page[*model.App]
	err := c.do(ctx, http.MethodGet, at("apps").with(query(filter.Page, "name", filter.Name)), nil, &page)
	return page, err
}

// Apps returns all apps that the filter selects, from its page on. It ends with
// the first error.
func (c *Client) Apps(ctx context.Context, filter model.AppFilter) iter.Seq2[*model.App, error] {
	return each(ctx, filter.Page, func(ctx context.Context, page model.PageRequest) (model.Page[*model.App], error) {
		filter.Page = page
		return c.ListApps(ctx, filter)
	})
}

// CreateApp creates an app and returns it as the server keeps it.
func (c *Client) CreateApp(ctx context.Context, app *model.App) (*model.App, error) {
	made := new(model.App)
	return answer(made, c.do(ctx, http.MethodPost, at("apps"), app, made))
}

// UpdateApp merges patch, whose ID says which app, into the app: what is zero in it
// stays, configuration and annotations with empty values are removed. It returns
// the whole app.
func (c *Client) UpdateApp(ctx context.Context, patch *model.App) (*model.App, error) {
	if patch.ID == "" {
		return nil, model.ErrAppMissingID
	}
	changed := new(model.App)
	return answer(changed, c.do(ctx, http.MethodPut, at("apps", patch.ID), patch, changed))
}

// DeleteApp deletes an app with its functions and triggers.
func (c *Client) DeleteApp(ctx context.Context, id string) error {
	if id == "" {
		return model.ErrAppMissingID
	}
	return c.do(ctx, http.MethodDelete, at("apps", id), nil, nil)
}

// answer returns no half-read object beside an error.
func answer[T any](value *T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return value, nil
}
