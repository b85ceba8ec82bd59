//go:build unix

// Package sockio reads from and writes to stream sockets with less work than the net
// package: a system call on a socket of Go never waits, so Go's scheduler need not be told
// of it. If it is, it wakes its monitor on another thread whenever the program was at rest,
// which then looks every 20 µs whether a system call lasts: on a call's way through a
// server that waits for others at each step, that is a fifth of the processor time, and
// most of it while others could work.
package sockio

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Conn is a connection that one goroutine may read from while another writes to it.
// Deadlines are those of the connection below.
type Conn struct {
	net.Conn
	raw syscall.RawConn

	in    []byte // of the Read in progress
	read  int
	inErr error

	later []byte // what the next Read writes first

	out    []byte // of the Write in progress, what is left of it
	outErr error
	outNow bool // the Write in progress does not wait

	quiet bool // of IsQuiet

	readNow, sendNow, lookNow func(fd uintptr) bool // methods as values, which are made once
}

// New returns a connection over another one, which must not be used for reading and
// writing beside it. It is the other one itself if that is no socket.
func New(c net.Conn) net.Conn {
	own, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return c // what is between us and the socket changes what is sent
	}
	raw, err := own.SyscallConn()
	if err != nil {
		return c
	}
	s := &Conn{Conn: c, raw: raw}
	s.readNow, s.sendNow, s.lookNow = s.tryRead, s.tryWrite, s.look
	return s
}

// SyscallConn is that of the connection below.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// NetConn is the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends only this side.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// WriteLater has the next Read write first, before it waits: who asks and then waits for
// the answer need not look for it before it can be there. It is for a side that is sent
// nothing unasked: what has come before is not seen until more comes. The bytes must not
// change until then. An error of writing is one of that Read, and Unwritten says what is
// left.
func (c *Conn) WriteLater(p []byte) { c.later = p }

// Unwritten is how much of WriteLater was not written.
func (c *Conn) Unwritten() int { return len(c.later) }

// Read reads what is there, or waits for it.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		c.in, c.read, c.inErr = p, 0, nil
		err := c.raw.Read(c.readNow)
		c.in = nil
		switch {
		case err != nil:
			return 0, err
		case c.inErr != nil:
			return 0, c.opError("read", c.inErr)
		case len(c.later) > 0: // the other side does not read as fast
			n, err := c.Write(c.later)
			if c.later = c.later[n:]; err != nil {
				return 0, err
			}
			c.later = nil
		case c.read == 0:
			return 0, io.EOF
		default:
			return c.read, nil
		}
	}
}

// tryRead is called when there may be something to read, and first of all. It returns
// false to wait.
func (c *Conn) tryRead(fd uintptr) bool {
	if len(c.later) > 0 {
		// From here on nothing is missed that comes: whoever calls this listens already.
		n, err := writeNow(fd, c.later)
		if c.later = c.later[n:]; err != 0 && err != syscall.EAGAIN {
			c.inErr = err
			return true
		}
		return len(c.later) > 0
	}
	n, err := readNow(fd, c.in)
	switch err {
	case 0:
		c.read = n
	case syscall.EAGAIN:
		return false
	default:
		c.inErr = err
	}
	return true
}

// Write writes all, and waits for room where there is none.
func (c *Conn) Write(p []byte) (int, error) { return c.write(p, false) }

// WriteNow writes what there is room for, which may be nothing.
func (c *Conn) WriteNow(p []byte) (int, error) { return c.write(p, true) }

func (c *Conn) write(p []byte, now bool) (int, error) {
	c.out, c.outErr, c.outNow = p, nil, now
	err := c.raw.Write(c.sendNow)
	n := len(p) - len(c.out)
	c.out = nil
	if err == nil && c.outErr != nil {
		err = c.opError("write", c.outErr)
	}
	return n, err
}

// tryWrite is called when there may be room, and first of all. It returns false to wait.
func (c *Conn) tryWrite(fd uintptr) bool {
	for len(c.out) > 0 {
		n, err := writeNow(fd, c.out)
		c.out = c.out[n:]
		switch err {
		case 0:
		case syscall.EAGAIN:
			return c.outNow
		default:
			c.outErr = err
			return true
		}
	}
	return true
}

// IsQuiet reports whether the connection is open and has nothing to read, and does not
// wait. Nobody may be reading.
func (c *Conn) IsQuiet() bool {
	c.quiet = false
	return c.raw.Read(c.lookNow) == nil && c.quiet
}

func (c *Conn) look(fd uintptr) bool {
	c.quiet = isQuiet(fd)
	return true
}

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}
