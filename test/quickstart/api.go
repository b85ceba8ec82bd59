package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// apiClient calls the server's definitions API and its functions.
type apiClient struct{ base string }

// definition is what the quickstart needs to know of an app, function or trigger.
type definition struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Image string `json:"image"` // of a function
}

// register makes app, function and trigger, or finds those of an earlier run,
// and returns the function's ID.
func register(ctx context.Context, api *apiClient, image string) (string, error) {
	app, err := api.ensure(ctx, "/v2/apps", nil, map[string]any{"name": "demo"})
	if err != nil {
		return "", fmt.Errorf("register the app: %w", err)
	}
	inApp := url.Values{"app_id": {app.ID}}
	fn, err := api.ensure(ctx, "/v2/fns", inApp, map[string]any{"name": "hello", "app_id": app.ID, "image": image})
	if err == nil && fn.Image != image { // the example was changed since
		err = api.do(ctx, http.MethodPut, "/v2/fns/"+fn.ID, map[string]any{"image": image}, &fn)
	}
	if err != nil {
		return "", fmt.Errorf("register the function: %w", err)
	}
	_, err = api.ensure(ctx, "/v2/triggers", inApp, map[string]any{
		"name": "hello", "app_id": app.ID, "fn_id": fn.ID, "type": "http", "source": "/hello",
	})
	if err != nil {
		return "", fmt.Errorf("register the trigger: %w", err)
	}
	return fn.ID, nil
}

// ensure creates a definition unless one of its name exists, and returns it.
func (c *apiClient) ensure(ctx context.Context, path string, scope url.Values, body map[string]any) (definition, error) {
	query := url.Values{"name": {body["name"].(string)}}
	for key, values := range scope {
		query[key] = values
	}
	var found struct {
		Items []definition `json:"items"`
	}
	if err := c.do(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &found); err != nil {
		return definition{}, err
	}
	if len(found.Items) > 0 {
		return found.Items[0], nil
	}
	var made definition
	err := c.do(ctx, http.MethodPost, path, body, &made)
	return made, err
}

func (c *apiClient) do(ctx context.Context, method, path string, body, answer any) error {
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(raw)
	}
	raw, err := exchange(ctx, method, c.base+path, payload)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, answer)
}

// call invokes a function and returns how long it took.
func (c *apiClient) call(ctx context.Context, target, body string) (time.Duration, string, error) {
	began := time.Now()
	raw, err := exchange(ctx, http.MethodPost, target, bytes.NewReader([]byte(body)))
	return time.Since(began), string(bytes.TrimSpace(raw)), err
}

func exchange(ctx context.Context, method, target string, body io.Reader) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: status %d: %s", method, target, response.StatusCode, raw)
	}
	return raw, nil
}
