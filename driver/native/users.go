//go:build linux

package native

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/tinefn/tine/driver/native/sandbox"
)

// Users says who the users in sandboxes are to the host.
type Users int

// The possibilities.
const (
	// UsersAuto: users of their own where the kernel allows it, else those of the host.
	UsersAuto Users = iota
	// UsersOwn: each sandbox has a user namespace with ids that nobody else has. New
	// fails where that does not work.
	UsersOwn
	// UsersHost: user 1000 of a sandbox is user 1000 of the host.
	UsersHost
)

// openUsers finds out whether sandboxes can have users of their own.
func (d *Driver) openUsers(ctx context.Context) error {
	if d.opts.Users == UsersHost {
		return nil
	}
	ids, err := sandbox.NewRange(d.opts.FirstID, d.opts.LastID)
	if err != nil {
		return err
	}
	switch err := d.tryUsers(ctx, ids); {
	case err == nil:
		d.ids = ids
		return nil
	case d.opts.Users == UsersOwn:
		return fmt.Errorf("sandboxes cannot have users of their own: %w; set FN_SANDBOX_USERS=auto to do without", err)
	default:
		d.log.Warn("sandboxes have no users of their own: user 1000 in them is user 1000 of this machine to the kernel", slog.Any("cause", err))
		return nil
	}
}

// tryUsers makes a sandbox as functions get one, as far as users matter.
func (d *Driver) tryUsers(ctx context.Context, from *sandbox.Range) (err error) {
	ctx, cancel := context.WithTimeout(ctx, d.opts.MakeTimeout)
	defer cancel()
	ids, err := from.Take()
	if err != nil {
		return err
	}
	defer from.Give(ids)
	return sandbox.Try(ctx, d.spawner, ids, d.base.layers(nil))
}
