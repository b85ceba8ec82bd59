//go:build linux

package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native/network"
	"github.com/tinefn/tine/driver/native/sandbox"
	"github.com/tinefn/tine/model"
)

// Examine finds out whether the driver can work on this machine, and if not why, by
// doing what New and Create do. It removes again what it makes, disturbs no server
// that is running, and ends at the first thing that is missing.
func Examine(ctx context.Context, opts Options) []driver.Finding {
	opts = opts.withDefaults()
	opts.Logger, opts.Network.Trial = slog.New(slog.DiscardHandler), true
	d := &Driver{opts: opts, log: opts.Logger, instance: randomInstance()}
	d.background, d.cancel = context.WithCancel(ctx)
	var (
		made  *unit
		trial string // a directory
	)
	defer func() {
		last := context.WithoutCancel(ctx)
		if made != nil {
			_ = made.Remove(last) // the next start of a server would find it
		}
		_ = d.release(last)
		_ = os.RemoveAll(trial) // of what nobody misses
	}()

	var findings []driver.Finding
	for _, step := range []struct {
		subject  string
		optional bool
		try      func() (detail string, err error)
	}{
		{"kernel", false, checkKernel},
		{"rights", false, func() (string, error) { return "root", checkRights() }},
		{"directory", false, func() (string, error) { return d.tryDirectory(&trial) }},
		{"first program", false, func() (string, error) { return d.openSpawner() }},
		{"control groups", false, func() (string, error) { return d.openGroups() }},
		{"network", false, func() (string, error) { return d.openNetworks() }},
		{"call filter", false, func() (string, error) { return "seccomp", d.openFilter() }},
		{"sandbox", false, func() (detail string, err error) {
			began := time.Now()
			made, err = d.make(ctx, "examine-"+strings.ToLower(model.NewID()), network.Egress)
			return fmt.Sprintf("made in %d ms", time.Since(began).Milliseconds()), err
		}},
		{"own users", d.opts.Users != UsersOwn, func() (string, error) { return d.examineUsers(ctx) }},
	} {
		detail, err := step.try()
		findings = append(findings, driver.Finding{Subject: step.subject, Detail: detail, Err: err, Optional: step.optional})
		if err != nil {
			break
		}
	}
	return findings
}

// The oldest kernel that has all that a sandbox needs: mount_setattr(2).
const (
	leastMajor = 5
	leastMinor = 12
)

func checkKernel() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", err
	}
	release := unix.ByteSliceToString(name.Release[:])
	major, rest, _ := strings.Cut(release, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(strings.TrimRight(minor, "-+abcdefghijklmnopqrstuvwxyz"))
	if errA == nil && errB == nil && (a < leastMajor || a == leastMajor && b < leastMinor) {
		return release, fmt.Errorf("Linux %s is too old: %d.%d or newer is needed, or Docker with FN_DRIVER=docker", release, leastMajor, leastMinor) //nolint:staticcheck // a name
	}
	return "Linux " + release, nil
}

// tryDirectory makes what sandboxes have in common in a directory of its own beside
// that of a driver, or in what is there of it.
func (d *Driver) tryDirectory(trial *string) (_ string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: set FN_STATE_DIR to a directory that this server can write", err)
		}
	}()
	dir, err := existing(d.opts.Dir)
	if err != nil {
		return "", err
	}
	if *trial, err = os.MkdirTemp(dir, ".examine-"); err != nil {
		return "", err
	}
	d.base, err = makeBase(*trial)
	return d.opts.Dir, err
}

// existing is a directory, or the first above it that exists.
func existing(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && info.IsDir():
			return dir, nil
		case err == nil:
			return "", fmt.Errorf("%s is not a directory", dir)
		case !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir):
			return "", err
		}
		dir = filepath.Dir(dir)
	}
}

// examineUsers is openUsers without what follows from it.
func (d *Driver) examineUsers(ctx context.Context) (string, error) {
	if d.opts.Users == UsersHost {
		return "not wanted, by FN_SANDBOX_USERS", nil
	}
	ids, err := sandbox.NewRange(d.opts.FirstID, d.opts.LastID)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("ids %d to %d", d.opts.FirstID, d.opts.LastID), d.tryUsers(ctx, ids)
}
