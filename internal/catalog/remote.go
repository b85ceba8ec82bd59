package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tinefn/tine/client"
	"github.com/tinefn/tine/model"
)

// DefaultRetries is how often a question is repeated that a node did not answer.
// It and the pauses are those of Fn's load balancers.
const DefaultRetries = 5

// The first pause before a question is repeated is a random time between these;
// each further one is twice as long.
const (
	leastPause = 25 * time.Millisecond
	mostPause  = 75 * time.Millisecond
)

// API is what a catalog asks another node for; *client.Client is one.
type API interface {
	App(ctx context.Context, id string) (*model.App, error)
	AppByName(ctx context.Context, name string) (*model.App, error)
	Fn(ctx context.Context, id string) (*model.Fn, error)
	TriggerBySource(ctx context.Context, appID, triggerType, source string) (*model.Trigger, error)
}

var _ API = (*client.Client)(nil)

// Remote returns a source that asks another node. What that refuses (4xx) is not
// asked for again; everything else that fails is, up to retries times. An error is
// model.ErrAppNotFound, ErrFnNotFound or ErrTriggerNotFound if the node says so,
// ErrServerBusy if it is, and otherwise none of package model's: what goes wrong
// between nodes is not the caller's fault.
func Remote(api API, retries int) Source { return &remote{api, retries} }

type remote struct {
	api     API
	retries int
}

func (r *remote) AppByID(ctx context.Context, id string) (*model.App, error) {
	return ask(ctx, r, model.ErrAppNotFound, id, func() (*model.App, error) { return r.api.App(ctx, id) })
}

func (r *remote) AppIDByName(ctx context.Context, name string) (string, error) {
	app, err := ask(ctx, r, model.ErrAppNotFound, name, func() (*model.App, error) { return r.api.AppByName(ctx, name) })
	if err != nil {
		return "", err
	}
	return app.ID, nil
}

// FnByID returns the function without what the node has added for its client: the
// endpoint's address depends on how the node was asked, and a function whose
// definition differs has other instances.
func (r *remote) FnByID(ctx context.Context, id string) (*model.Fn, error) {
	fn, err := ask(ctx, r, model.ErrFnNotFound, id, func() (*model.Fn, error) { return r.api.Fn(ctx, id) })
	if err != nil {
		return nil, err
	}
	fn.Annotations = fn.Annotations.WithoutReserved()
	return fn, nil
}

func (r *remote) TriggerBySource(ctx context.Context, appID, triggerType, source string) (*model.Trigger, error) {
	trigger, err := ask(ctx, r, model.ErrTriggerNotFound, source, func() (*model.Trigger, error) {
		return r.api.TriggerBySource(ctx, appID, triggerType, source)
	})
	if err != nil {
		return nil, err
	}
	trigger.Annotations = trigger.Annotations.WithoutReserved()
	return trigger, nil
}

// ask asks until there is an answer, or it has asked often enough. What nothing
// can have as its name is not there.
func ask[T any](ctx context.Context, r *remote, notFound model.Kind, name string, question func() (*T, error)) (*T, error) {
	if name == "" {
		return nil, notFound
	}
	for retry := 0; ; retry++ {
		value, err := question()
		if err == nil {
			return value, nil
		}
		if isGone(err) {
			return nil, goneKind(err)
		}
		if isRefusal(err) || retry >= r.retries || !pause(ctx, retry) {
			return nil, unanswered(name, err, retry+1)
		}
	}
}

// goneKind leaves of an error what the caller may know.
func goneKind(err error) error {
	for _, kind := range []model.Kind{model.ErrAppNotFound, model.ErrFnNotFound} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return model.ErrTriggerNotFound
}

// isRefusal reports whether asking again would be in vain.
func isRefusal(err error) bool {
	answer, ok := errors.AsType[*client.Error](err)
	return ok && answer.Status < 500
}

// pause waits before the question is repeated. It returns false if ctx has ended.
func pause(ctx context.Context, retry int) bool {
	wait := (leastPause + rand.N(mostPause-leastPause)) << retry
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// unanswered keeps the causes' kinds from the caller, except that a server is
// busy.
func unanswered(name string, err error, times int) error {
	if errors.Is(err, model.ErrServerBusy) {
		return fmt.Errorf("definition of %q, asked for %d times: %w", name, times, err)
	}
	text := fmt.Sprintf("definition of %q, asked for %d times: %v", name, times, err.Error())
	if isRefusal(err) {
		text += "; is there an api node, or a full one, at this address?"
	}
	return errors.New(text)
}
