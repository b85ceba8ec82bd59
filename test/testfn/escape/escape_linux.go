package escape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/osthread"
)

// Targets are what the test has made outside of the container. What is empty is
// not tried.
type Targets struct {
	Subject string `json:"subject"` // one of Subjects
	Only    string `json:"only"`    // the one variant to try; empty: all
	Marker  string `json:"marker"`  // in the content of File, Key and PID's environment

	File     string   `json:"file"`     // readable for the function's user
	Dir      string   `json:"dir"`      // writable for everybody
	Handle   []byte   `json:"handle"`   // of File, as name_to_handle_at tells
	Kind     int32    `json:"kind"`     // of the handle
	Device   uint64   `json:"device"`   // number of the device that File is on
	PID      int      `json:"pid"`      // a process of the function's user
	Key      int      `json:"key"`      // serial number of a key that everybody may read
	Sockets  []string `json:"sockets"`  // paths of unix sockets that listen
	Abstract string   `json:"abstract"` // abstract name of one, without the @

	// Addresses are host:port that listen for TCP and UDP, by what they are.
	Addresses map[string][]string `json:"addresses"`
}

// Outcome is what came of one attempt.
type Outcome struct {
	Variant string `json:"variant"`
	Through bool   `json:"through"`
	Result  string `json:"result"` // error, or what was reached
}

// Subjects are what can be tried, by name.
var Subjects = map[string]func(*Run){
	"HostFiles":   hostFiles,
	"Processes":   processes,
	"Sockets":     sockets,
	"Devices":     devices,
	"Kernel":      kernelAttempts,
	"RawSockets":  rawSockets,
	"Mounts":      mounts,
	"Namespaces":  namespaces,
	"Keyrings":    keyrings,
	"Cgroups":     cgroups,
	"ProcAndSys":  procAndSys,
	"Network":     network,
	"Descriptors": descriptors,
}

// Run is the trying of one subject.
type Run struct {
	Targets
	outcomes []Outcome
}

// Answer reads targets as JSON, tries their subject and writes the outcomes.
func Answer(r io.Reader, w io.Writer) error {
	var run Run
	if err := json.NewDecoder(r).Decode(&run.Targets); err != nil {
		return fmt.Errorf("read what is to be tried: %w", err)
	}
	try, ok := Subjects[run.Subject]
	if !ok {
		return fmt.Errorf("there is no subject %q", run.Subject)
	}
	try(&run)
	return json.NewEncoder(w).Encode(run.outcomes)
}

// errHidden is for attempts that reach nothing of what is outside.
var errHidden = errors.New("nothing of the host is there")

// refusals are errors by which the kernel refuses. ENOSYS is what filters of
// system calls answer for what is too new.
var refusals = []error{unix.EPERM, unix.EACCES, unix.ENOSYS, unix.EROFS, errHidden}

// try makes an attempt, for which also these errors are refusals.
func (r *Run) try(variant string, attempt func() error, also ...error) {
	if r.Only != "" && r.Only != variant {
		return
	}
	err := attempt()
	outcome := Outcome{Variant: variant}
	switch {
	case err == nil:
		outcome.Through, outcome.Result = true, "done"
	default:
		isRefusal := func(refusal error) bool { return errors.Is(err, refusal) }
		outcome.Through, outcome.Result = !slices.ContainsFunc(slices.Concat(refusals, also), isRefusal), err.Error()
	}
	r.outcomes = append(r.outcomes, outcome)
}

// through is an error for what has got through, and says what was reached. It is
// no refusal.
func through(format string, args ...any) error { return fmt.Errorf(format, args...) }

// apart runs what changes the thread on one that ends with it.
func apart(do func() error) (err error) {
	osthread.Do(func() { err = do() })
	return err
}

// call makes a system call with at most six arguments.
func call(number uintptr, args ...uintptr) error {
	var all [6]uintptr
	copy(all[:], args)
	if _, _, errno := unix.Syscall6(number, all[0], all[1], all[2], all[3], all[4], all[5]); errno != 0 {
		return errno
	}
	return nil
}

// call is an attempt that is nothing but a system call.
func (r *Run) call(variant string, number uintptr, args ...uintptr) {
	r.try(variant, func() error { return apart(func() error { return call(number, args...) }) })
}

// hasMarker is nil if the content holds the marker.
func (r *Run) hasMarker(content []byte) error {
	if bytes.Contains(content, []byte(r.Marker)) {
		return nil
	}
	return errHidden
}

// reads is nil if the file holds the marker.
func (r *Run) reads(path string) error {
	content, err := readSome(path)
	if err != nil {
		return err
	}
	return r.hasMarker(content)
}

// maxRead is how much of a file is read: some have no end.
const maxRead = 64 << 10

// readSome reads the beginning of a file, and does not wait for it.
func readSome(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }() // it was only read
	content := make([]byte, maxRead)
	n, err := unix.Read(fd, content)
	return content[:max(n, 0)], err
}

// opens is nil if the file can be opened in that way. Nothing is done with it.
func opens(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// writes is nil if text could be written to the file.
func writes(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(text))
	return errors.Join(err, unix.Close(fd))
}

// absent are errors for a path that is not there.
var absent = []error{unix.ENOENT, unix.ENOTDIR, unix.ENXIO, unix.ENODEV}

// isMain tells whether this is the container's first process.
func isMain() bool { return os.Getpid() == 1 }
