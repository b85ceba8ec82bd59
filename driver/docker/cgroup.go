package docker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cgroup is a container's control group, by which its processes are frozen
// without the engine. The files are opened anew each time: that costs
// microseconds, no descriptor per idle container, and cannot go wrong, as the
// path contains the container's identifier.
type cgroup struct {
	control     string // file that takes the order
	freezeOrder string
	thawOrder   string
	status      string // file that tells how far it was carried out
	frozenLine  string // of status
}

func newCgroup(version cgroupVersion, dir string) *cgroup {
	if version == cgroupV1 {
		state := filepath.Join(dir, "freezer.state")
		return &cgroup{control: state, freezeOrder: "FROZEN", thawOrder: "THAWED", status: state, frozenLine: "FROZEN"}
	}
	return &cgroup{
		control: filepath.Join(dir, "cgroup.freeze"), freezeOrder: "1", thawOrder: "0",
		status: filepath.Join(dir, "cgroup.events"), frozenLine: "frozen 1",
	}
}

// errEnded is for a control group that is not there any more: engines remove
// it when the container's process has ended.
var errEnded = errors.New("its process has ended")

// freezePauses are the waits between looks at whether all processes stopped.
// They usually have at the first; a process that waits for a disk may take
// any time.
var freezePauses = []time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 400 * time.Microsecond, 800 * time.Microsecond,
}

// freeze stops the processes.
//
// When the order is written, all processes are marked: one that is still in
// the kernel stops before it runs another instruction of its own, and thaw
// takes the mark away, whether it stopped by then or not. So it is no failure
// if some have not stopped after the last look.
func (g *cgroup) freeze() error {
	if err := g.order(g.freezeOrder); err != nil {
		return err
	}
	for _, pause := range freezePauses {
		frozen, err := g.frozen()
		if err != nil || frozen {
			return err
		}
		time.Sleep(pause)
		// Version 1 looks anew at processes that were being forked.
		if err := g.order(g.freezeOrder); err != nil {
			return err
		}
	}
	return nil
}

// thaw lets the processes go on. It does no harm if they were not stopped.
func (g *cgroup) thaw() error { return g.order(g.thawOrder) }

// frozen reports whether all processes have stopped.
func (g *cgroup) frozen() (bool, error) {
	text, err := os.ReadFile(g.status)
	if err != nil {
		return false, vanished(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.TrimSuffix(line, "\n") == g.frozenLine {
			return true, nil
		}
	}
	return false, nil
}

// writable makes sure that orders can be given.
func (g *cgroup) writable() error {
	f, err := os.OpenFile(g.control, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func (g *cgroup) order(text string) error {
	f, err := os.OpenFile(g.control, os.O_WRONLY, 0) // never made: os.WriteFile would
	if err != nil {
		return vanished(err)
	}
	_, err = f.WriteString(text)
	return vanished(errors.Join(err, f.Close()))
}

// vanished tells the end of a control group, before or after its file was
// opened, from other errors.
func vanished(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return errEnded
	}
	return err
}
