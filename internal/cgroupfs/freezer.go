// Package cgroupfs stops and resumes the processes of control groups by the
// files that the kernel shows them as, of versions 1 and 2.
package cgroupfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Version is the generation of the kernel's interface.
type Version int

// The versions. A machine may have both mounted, in which case processes have
// a place in both.
const (
	V1 Version = 1 // the freezer hierarchy of it
	V2 Version = 2
)

// Freezer freezes the processes of a control group. The files are opened anew
// each time: that costs microseconds, no descriptor per idle group, and cannot
// go wrong as long as no other group takes the same path.
//
// Its methods may be called from several goroutines; who freezes and thaws at
// the same time cannot know which of them is in effect.
type Freezer struct {
	control     string // file that takes the order
	freezeOrder string
	thawOrder   string
	status      string // file that tells how far it was carried out
	frozenLine  string // of status
}

// NewFreezer is for the group that is shown at a directory.
func NewFreezer(version Version, dir string) *Freezer {
	if version == V1 {
		state := filepath.Join(dir, "freezer.state")
		return &Freezer{control: state, freezeOrder: "FROZEN", thawOrder: "THAWED", status: state, frozenLine: "FROZEN"}
	}
	return &Freezer{
		control: filepath.Join(dir, "cgroup.freeze"), freezeOrder: "1", thawOrder: "0",
		status: filepath.Join(dir, "cgroup.events"), frozenLine: "frozen 1",
	}
}

// Control is the file that takes the orders, which names the group.
func (f *Freezer) Control() string { return f.control }

// ErrEnded is for a control group that is not there any more: who made it
// removes it when its process has ended.
var ErrEnded = errors.New("its process has ended")

// freezePauses are the waits between looks at whether all processes stopped.
// They usually have at the first; a process that waits for a disk may take
// any time.
var freezePauses = []time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 400 * time.Microsecond, 800 * time.Microsecond,
}

// Freeze stops the processes.
//
// When the order is written, all processes are marked: one that is still in
// the kernel stops before it runs another instruction of its own, and Thaw
// takes the mark away, whether it stopped by then or not. So it is no failure
// if some have not stopped after the last look.
func (f *Freezer) Freeze() error {
	if err := f.order(f.freezeOrder); err != nil {
		return err
	}
	for _, pause := range freezePauses {
		frozen, err := f.Frozen()
		if err != nil || frozen {
			return err
		}
		time.Sleep(pause)
		// Version 1 looks anew at processes that were being forked.
		if err := f.order(f.freezeOrder); err != nil {
			return err
		}
	}
	return nil
}

// waitPause is the time between looks of FreezeWait.
const waitPause = 2 * time.Millisecond

// FreezeWait stops the processes and waits until the last one has stopped or
// the context is done, whose error it returns then. The processes stay marked
// in that case, and are to be thawed.
func (f *Freezer) FreezeWait(ctx context.Context) error {
	if err := f.Freeze(); err != nil {
		return err
	}
	ticker := time.NewTicker(waitPause)
	defer ticker.Stop()
	for {
		frozen, err := f.Frozen()
		if err != nil || frozen {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := f.order(f.freezeOrder); err != nil {
			return err
		}
	}
}

// Thaw lets the processes go on. It does no harm if they were not stopped.
func (f *Freezer) Thaw() error { return f.order(f.thawOrder) }

// Frozen reports whether all processes have stopped.
func (f *Freezer) Frozen() (bool, error) {
	text, err := os.ReadFile(f.status)
	if err != nil {
		return false, vanished(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.TrimSuffix(line, "\n") == f.frozenLine {
			return true, nil
		}
	}
	return false, nil
}

// Writable makes sure that orders can be given.
func (f *Freezer) Writable() error {
	file, err := os.OpenFile(f.control, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return file.Close()
}

func (f *Freezer) order(text string) error {
	file, err := os.OpenFile(f.control, os.O_WRONLY, 0) // never made: os.WriteFile would
	if err != nil {
		return vanished(err)
	}
	_, err = file.WriteString(text)
	return vanished(errors.Join(err, file.Close()))
}

// vanished tells the end of a control group, before or after its file was
// opened, from other errors.
func vanished(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return ErrEnded
	}
	return err
}
