package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestExhaustedKnowsWhatTheKernelSays(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		says string // empty: it is left alone
	}{
		"processes":      {os.NewSyscallError("clone", syscall.EAGAIN), "pids.max"},
		"files":          {fmt.Errorf("open: %w", &fs.PathError{Op: "open", Path: "/x", Err: syscall.EMFILE}), "ulimit -n"},
		"disk":           {errors.Join(errors.New("other"), &fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}), "disk is full"},
		"not there":      {fs.ErrNotExist, ""},
		"no right":       {syscall.EPERM, ""},
		"said before":    {fmt.Errorf("%w: %w", ErrExhausted, syscall.ENOMEM), ""},
		"engine is gone": {ErrUnavailable, ""},
		"nothing":        {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Exhausted(tt.err)
			if !errors.Is(got, tt.err) {
				t.Errorf("%v: the cause is lost", got)
			}
			switch {
			case tt.says == "":
				if fmt.Sprint(got) != fmt.Sprint(tt.err) {
					t.Errorf("got %v", got)
				}
			case !errors.Is(got, ErrExhausted) || !strings.Contains(got.Error(), tt.says) || !strings.Contains(got.Error(), tt.err.Error()):
				t.Errorf("got %v", got)
			}
		})
	}
}
