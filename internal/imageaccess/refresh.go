package imageaccess

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/tinefn/tine/driver"
)

// maxSilent bounds the names whose registry is known not to answer.
const maxSilent = 10_000

// silent remembers the names whose registry does not say what they mean.
type silent struct {
	mu    sync.Mutex // guards names
	names map[string]struct{}
}

// Moved asks the registry what an image's name means by now, and reports whether
// that is another image, which the driver pulls then. Names that cannot move, and
// images that came from no registry, are only authorized. A registry that says
// nothing useful leaves the image in use, unless it is private and nothing else
// shows that the tenant may use it. Errors: as of [Access.Authorize].
func (a *Access) Moved(ctx context.Context, want driver.ImageRequest, found *Image) (bool, error) {
	named := found.NameFor(want.Name)
	if !found.movable(named) {
		return false, a.Authorize(ctx, want, found)
	}
	who, err := a.identify(named, want)
	if err != nil {
		return false, err
	}
	digest, err := a.ask(ctx, want, named, who, found.ID)
	if refused, ok := errors.AsType[*driver.PullError](err); ok {
		if a.silent.fell(want.Name) {
			a.log.Warn("cannot find out whether the image's name means another one by now; it stays in use",
				slog.String("image", want.Name), slog.Int("status", refused.Status), slog.String("error", refused.Message))
		}
		if a.private.holds(found) && !a.grants.holds(grant{want.Tenant, who.digest, named.String()}) {
			return false, err
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a.silent.answered(want.Name)
	return !found.hasDigest(named, digest), nil
}

// fell notes that a name's registry does not say what the name means, and reports
// whether that is new.
func (s *silent) fell(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.names[name]; known {
		return false
	}
	if s.names == nil || len(s.names) >= maxSilent {
		s.names = map[string]struct{}{}
	}
	s.names[name] = struct{}{}
	return true
}

// answered notes the opposite.
func (s *silent) answered(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, name)
}
