package pool

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/model"
)

// withToken is a spec whose caller brought a registry token.
func withToken(spec *Spec, token string) *Spec {
	spec.RegistryToken = token
	return spec
}

func TestImageIsPulledWithTheNewestTokenThatACallBrought(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.image = func(want driver.ImageRequest) (driver.Image, error) {
			if want.Token != "new" {
				return driver.Image{}, &driver.PullError{Image: want.Name, Status: 401}
			}
			return driver.Image{ID: "sha256:1"}, nil
		}
		p := newPool(t, e, nil)
		if _, err := p.Acquire(t.Context(), withToken(fnSpec("a"), "old")); !errors.Is(err, model.ErrImagePullFailed) {
			t.Errorf("with the old token: %v", err)
		}
		lease := mustAcquire(t, p, withToken(fnSpec("a"), "new"))
		// A call without a token takes the other calls' nothing away.
		waiting := acquireInBackground(t, p, fnSpec("a"))
		(<-waiting).Release()
		lease.Release()
		if last := e.wants[len(e.wants)-1]; last.Token != "new" || last.Name != "a" {
			t.Errorf("asked for %s with token %q", last, last.Token)
		}
		if spec := e.Containers()[0].Spec(); spec.ImageID != "sha256:1" || spec.Image != "a" || len(spec.Extensions) != 0 {
			t.Errorf("container of %q, %q, %v", spec.Image, spec.ImageID, spec.Extensions)
		}
		closePool(t, p, e)
	})
}
