package catalog

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/model"
)

// impatient is a source that gives up when its context ends, as databases do.
type impatient struct{ *source }

func (s impatient) FnByID(ctx context.Context, id string) (*model.Fn, error) {
	select {
	case <-time.After(time.Second):
		return s.source.FnByID(ctx, id)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestQuestionDoesNotEndWithTheCallerWhoAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(impatient{newSource()}, DefaultTTL)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		left := make(chan error, 1)
		go func() {
			_, err := c.ByFnID(ctx, "f1")
			left <- err
		}()
		synctest.Wait()
		if _, err := c.ByFnID(t.Context(), "f1"); err != nil {
			t.Errorf("the one who stayed got %v", err)
		}
		if err := <-left; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the one who left got %v", err)
		}
	})
}
