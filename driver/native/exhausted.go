//go:build linux

package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native/job"
	"github.com/tinefn/tine/driver/native/network"
	"github.com/tinefn/tine/driver/native/sandbox"
)

// errMakeTimeout is the cause with which the deadline of make ends it.
var errMakeTimeout = fmt.Errorf("%w: the kernel takes too long to make a sandbox", driver.ErrUnavailable)

// explain says of an error of make whether the machine has no room for a sandbox,
// or takes too long.
func (u *unit) explain(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errMakeTimeout):
		return errors.Join(errMakeTimeout, err)
	case errors.Is(err, network.ErrNoAddress), errors.Is(err, sandbox.ErrNoIDs): // they say what to do
		return fmt.Errorf("%w: %w", driver.ErrExhausted, err)
	}
	if failed, ok := errors.AsType[*job.Failure](err); ok {
		// It has no limits of its own yet, so that it is the machine which has none left.
		err = errors.Join(err, shortageOf(failed))
	}
	if u.box != nil && errors.Is(err, io.EOF) {
		err = u.whyEnded(err)
	}
	return driver.Exhausted(err)
}

// shortageOf is what a sandbox lacked for a step, nil if that is not why it failed. It
// says by its text what the kernel said.
func shortageOf(failed *job.Failure) error {
	for _, errno := range []unix.Errno{unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.ENOSPC} {
		if strings.HasSuffix(failed.Cause, errno.Error()) {
			return errno
		}
	}
	return nil
}

// lastWords is how long the first process of a sandbox that has ended may take to
// be gone: its output is read then, as far as it is this long.
const (
	lastWords      = time.Second
	lastWordsBytes = 512
)

// whyEnded explains the end of a sandbox that was not ready yet and said nothing.
// It is either killed by the kernel, as the machine has no memory, or ends itself as
// Go's runtime does that gets neither memory nor threads, which it prints.
func (u *unit) whyEnded(err error) error {
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-u.box.Done():
	case <-timer.C:
		return err
	}
	if status := u.box.Status(); status.Signal && status.Code == int(unix.SIGKILL) {
		return fmt.Errorf("%w: it was killed: %w", err, unix.ENOMEM)
	}
	if deadlineErr := u.box.Stderr.SetReadDeadline(time.Now().Add(lastWords)); deadlineErr != nil {
		return err
	}
	text, _ := io.ReadAll(io.LimitReader(u.box.Stderr, lastWordsBytes)) // what there is
	said, _, _ := strings.Cut(string(text), "\n")
	err = fmt.Errorf("%w: it printed %q", err, said)
	switch lower := strings.ToLower(said); {
	case strings.Contains(lower, unix.EAGAIN.Error()), strings.Contains(lower, "failed to create new os thread"):
		return fmt.Errorf("%w: %w", err, unix.EAGAIN)
	case strings.Contains(lower, unix.ENOMEM.Error()), strings.Contains(lower, "out of memory"):
		return fmt.Errorf("%w: %w", err, unix.ENOMEM)
	}
	return err
}
