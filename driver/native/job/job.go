// Package job is what a sandbox is told to run, and how that is written.
//
// A sandbox waits for one message on a socket of type SEQPACKET, which carries
// the job and open files. It answers with one message if a step failed, and
// otherwise closes the socket when the function's program runs. The form is
// plain, so that an init in another language could read it: numbers are little
// endian, texts and lists begin with their length in 32 bits.
package job

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Version begins every job. An init refuses others.
const Version = 4

// MaxBytes bounds a job: what a socket takes in one message by default, which is
// 208 KiB less what the kernel needs (net.core.wmem_default).
const MaxBytes = 160 << 10

// Job is what a sandbox is to run.
type Job struct {
	Args []string // the program and its arguments
	Env  []string // KEY=value
	Dir  string   // working directory; empty: /
	Host string   // host name

	UID, GID     uint32
	Groups       []uint32 // further ones
	Capabilities uint64   // that are kept, by their numbers; 0: none
	Init         bool     // process 1 stays, and reaps what the program leaves
	NewPrivs     bool     // programs may get more rights, by set-uid for example

	TmpBytes  uint64 // size of the file system at /tmp, 0: the kernel's default
	TmpInodes uint64
	NoTmp     bool // /tmp is the image's

	OpenFiles uint64 // that a process may have; 0: as many as this one

	HasSockets bool // the second file is the directory of sockets
	HasFilter  bool // the last file is the seccomp program
}

// Failure is a step of a job that failed in the sandbox.
type Failure struct {
	Step  string
	Cause string
}

// Steps about what the image names, as the beginning of [Failure.Step].
const (
	StepDirectory = "enter the working directory "
	StepFind      = "find the program"
	StepExecute   = "execute "
)

// OfImage reports whether the image is what a step failed for.
func (f *Failure) OfImage() bool {
	return f.Step == StepFind || strings.HasPrefix(f.Step, StepDirectory) || strings.HasPrefix(f.Step, StepExecute)
}

func (f *Failure) Error() string { return f.Step + ": " + f.Cause }

// Ready is the message by which a sandbox says that it waits.
const Ready = "ready"

// Marshal writes a job.
func (j *Job) Marshal() ([]byte, error) {
	var w writer
	w.number32(Version)
	w.texts(j.Args)
	w.texts(j.Env)
	w.text(j.Dir)
	w.text(j.Host)
	w.number32(j.UID)
	w.number32(j.GID)
	w.number32(uint32(len(j.Groups)))
	for _, group := range j.Groups {
		w.number32(group)
	}
	w.number64(j.Capabilities)
	w.number64(j.TmpBytes)
	w.number64(j.TmpInodes)
	w.number64(j.OpenFiles)
	for _, flag := range []bool{j.Init, j.NewPrivs, j.NoTmp, j.HasSockets, j.HasFilter} {
		w.flag(flag)
	}
	if len(w.out) > MaxBytes {
		return nil, fmt.Errorf("the arguments and the environment take %d bytes, more than %d: make the configuration of the function smaller", len(w.out), MaxBytes)
	}
	return w.out, nil
}

// Unmarshal reads what Marshal wrote.
func Unmarshal(in []byte) (*Job, error) {
	r := reader{in: in}
	if version := r.number32(); r.err == nil && version != Version {
		return nil, fmt.Errorf("the job has version %d, this init understands %d: use the sandbox-init that was built with the server", version, Version)
	}
	var j Job
	j.Args = r.texts()
	j.Env = r.texts()
	j.Dir = r.text()
	j.Host = r.text()
	j.UID = r.number32()
	j.GID = r.number32()
	for range r.length(groupBytes) {
		j.Groups = append(j.Groups, r.number32())
	}
	j.Capabilities = r.number64()
	j.TmpBytes = r.number64()
	j.TmpInodes = r.number64()
	j.OpenFiles = r.number64()
	for _, flag := range []*bool{&j.Init, &j.NewPrivs, &j.NoTmp, &j.HasSockets, &j.HasFilter} {
		*flag = r.flag()
	}
	switch {
	case r.err != nil:
		return nil, r.err
	case len(r.in) > 0:
		return nil, errTrailing
	case len(j.Args) == 0:
		return nil, errors.New("the job has no program")
	}
	return &j, nil
}

// groupBytes is the length of a group in the message.
const groupBytes = 4

var (
	errTruncated = errors.New("the job is cut off")
	errTrailing  = errors.New("the job has more than it should")
)

type writer struct{ out []byte }

func (w *writer) number32(n uint32) { w.out = binary.LittleEndian.AppendUint32(w.out, n) }
func (w *writer) number64(n uint64) { w.out = binary.LittleEndian.AppendUint64(w.out, n) }

func (w *writer) text(s string) {
	w.number32(uint32(len(s)))
	w.out = append(w.out, s...)
}

func (w *writer) texts(list []string) {
	w.number32(uint32(len(list)))
	for _, s := range list {
		w.text(s)
	}
}

func (w *writer) flag(f bool) {
	if f {
		w.out = append(w.out, 1)
	} else {
		w.out = append(w.out, 0)
	}
}

// reader reads until the first error, after which everything is zero.
type reader struct {
	in  []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.in) {
		if r.err == nil {
			r.err = errTruncated
		}
		return nil
	}
	part := r.in[:n]
	r.in = r.in[n:]
	return part
}

func (r *reader) number32() uint32 {
	if part := r.take(4); part != nil {
		return binary.LittleEndian.Uint32(part)
	}
	return 0
}

func (r *reader) number64() uint64 {
	if part := r.take(8); part != nil {
		return binary.LittleEndian.Uint64(part)
	}
	return 0
}

// length is that of a list whose elements take so many bytes at least.
func (r *reader) length(least int) int {
	n := r.number32()
	if uint64(n)*uint64(least) > uint64(len(r.in)) {
		if r.err == nil {
			r.err = errTruncated
		}
		return 0
	}
	return int(n)
}

func (r *reader) text() string { return string(r.take(r.length(1))) }

func (r *reader) texts() []string {
	var list []string
	for range r.length(4) {
		list = append(list, r.text())
	}
	return list
}

func (r *reader) flag() bool {
	part := r.take(1)
	if part != nil && part[0] > 1 && r.err == nil {
		r.err = fmt.Errorf("a flag of the job is %d", part[0])
	}
	return part != nil && part[0] == 1
}
