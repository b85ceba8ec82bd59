package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tinefn/tine/model"
)

// maxErrorBytes is what is read of an answer that is no success.
const maxErrorBytes = 64 << 10

// Error is an answer of the API that is no success.
type Error struct {
	Method string
	URL    string
	Status int

	// Message is the API's own text. It is empty if the answer is not in the API's
	// form, which tells that something else has answered, such as a proxy.
	Message string

	// RetryAfter is what a busy server asks for; 0: nothing.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	text := e.Message
	if text == "" {
		text = http.StatusText(e.Status) + ", but not in the form of an Fn API"
	}
	return fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Status, text)
}

// Unwrap returns what package model makes of the API's status and text, or nil if
// they are not the API's.
func (e *Error) Unwrap() error {
	if e.Message == "" {
		return nil
	}
	return model.WithRetryAfter(model.Told(e.Status, e.Message, false), e.RetryAfter)
}

// endpoint is a path below the API's version, from its decoded segments, and a
// query.
type endpoint struct {
	segments []string
	query    url.Values
}

func at(segments ...string) endpoint { return endpoint{segments: segments} }

func (e endpoint) with(query url.Values) endpoint {
	e.query = query
	return e
}

// url keeps segments apart that have slashes in them.
func (c *Client) url(e endpoint) *url.URL {
	u := *c.base
	u.RawPath = c.base.EscapedPath() + "/v2"
	u.Path += "/v2"
	for _, segment := range e.segments {
		u.Path += "/" + segment
		u.RawPath += "/" + url.PathEscape(segment)
	}
	u.RawQuery = e.query.Encode()
	return &u
}

// do sends a request, with body as JSON if it is not nil, and reads the answer
// into result if that is not nil.
func (c *Client) do(ctx context.Context, method string, to endpoint, body, result any) error {
	request, err := c.request(ctx, method, to, body)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err // a *url.Error, which names method and address
	}
	defer response.Body.Close()
	if response.StatusCode < http.StatusOK || response.StatusCode >= http.StatusMultipleChoices {
		return failure(request, response)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, c.maxBytes+1))
	if err == nil && int64(len(data)) > c.maxBytes {
		err = fmt.Errorf("the answer is longer than %d bytes", c.maxBytes)
	}
	if err == nil && result != nil {
		err = json.Unmarshal(data, result)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, request.URL.Redacted(), err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method string, to endpoint, body any) (*http.Request, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%s /v2/%s: %w", method, strings.Join(to.segments, "/"), err)
		}
		content = bytes.NewReader(data)
	}
	// The path is the one of c.url and not what parsing it again makes of it.
	request, err := http.NewRequestWithContext(ctx, method, c.base.String(), content)
	if err != nil {
		return nil, err
	}
	request.URL = c.url(to)
	for name, values := range c.header {
		request.Header[name] = values
	}
	for name, values := range traceOf(ctx) {
		request.Header[name] = values
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

// failure makes an error of an answer. A body that cannot be read leaves the
// status.
func failure(request *http.Request, response *http.Response) error {
	failed := &Error{Method: request.Method, URL: request.URL.Redacted(), Status: response.StatusCode}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		failed.RetryAfter = time.Duration(seconds) * time.Second
	}
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != "application/json" && kind != "text/plain" {
		return failed // Fn labels some of its errors text/plain
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxErrorBytes))
	if err != nil {
		return errors.Join(failed, err)
	}
	var said struct{ Message string }
	if json.Unmarshal(data, &said) == nil {
		failed.Message = said.Message
	}
	return failed
}
