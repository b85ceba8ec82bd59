package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"time"
)

// exchangeTimeout bounds one request with its response. Whoever takes longer is
// broken.
const exchangeTimeout = 60 * time.Second

// errMalformed is a response that is not HTTP/1.1.
var errMalformed = errors.New("malformed response")

// caller is one HTTP/1.1 client: one connection that is kept, one request at a
// time. It does less than net/http's, so that making load takes little of the
// processors that it shares with what is measured. It is for one goroutine.
type caller struct {
	address string // host:port, or the path of a unix socket
	conn    net.Conn
	in      *bufio.Reader
	unwatch func() bool
}

func newCaller(address string) *caller {
	return &caller{address: address, in: bufio.NewReaderSize(nil, 64<<10)}
}

func (c *caller) connect(ctx context.Context) error {
	network := "tcp"
	if filepath.IsAbs(c.address) {
		network = "unix"
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, c.address)
	if err != nil {
		return err
	}
	c.conn = conn
	c.in.Reset(conn)
	c.unwatch = context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the exchange
	return nil
}

func (c *caller) close() {
	if c.conn != nil {
		c.unwatch()
		_ = c.conn.Close() // nothing is in progress
		c.conn = nil
	}
}

// do sends a complete request and reads the response to its end. It connects
// if there is no connection. The body is kept in the buffer, or dropped if that
// is nil.
func (c *caller) do(ctx context.Context, request []byte, body *bytes.Buffer) (response, error) {
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return response{}, err
		}
	}
	got, err := c.exchange(request, body)
	if err != nil || got.closes {
		c.close()
	}
	return got, err
}

func (c *caller) exchange(request []byte, body *bytes.Buffer) (response, error) {
	if err := c.conn.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return response{}, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return response{}, err
	}
	return readResponse(c.in, body)
}

// response is what matters of one.
type response struct {
	status     int
	size       int64 // of the body
	retryAfter bool  // it has such a header
	closes     bool  // the connection cannot be used again
}

// framing is how the end of a body is found.
type framing struct {
	length  int64 // -1: unknown
	chunked bool
}

// readResponse reads one response, after informational ones.
func readResponse(in *bufio.Reader, body *bytes.Buffer) (response, error) {
	for {
		got, frame, err := readHead(in)
		if err != nil {
			return response{}, err
		}
		if got.status >= 200 {
			got.size, err = readBody(in, frame, got.status, body)
			return got, err
		}
	}
}

func readHead(in *bufio.Reader) (got response, frame framing, err error) {
	text, err := readLine(in)
	if err != nil {
		return got, frame, err
	}
	version, rest, _ := bytes.Cut(text, []byte(" "))
	code, _, _ := bytes.Cut(rest, []byte(" "))
	got.status, err = strconv.Atoi(string(code))
	if err != nil || len(code) != 3 || got.status < 100 || string(version) != "HTTP/1.1" {
		return got, frame, fmt.Errorf("%w: status line %q", errMalformed, text)
	}
	frame.length = -1
	for {
		text, err := readLine(in)
		if err != nil {
			return got, frame, err
		}
		if len(text) == 0 {
			break
		}
		name, value, found := bytes.Cut(text, []byte(":"))
		if !found {
			return got, frame, fmt.Errorf("%w: header line %q", errMalformed, text)
		}
		value = bytes.TrimSpace(value)
		switch {
		case is(name, "Content-Length"):
			n, err := strconv.ParseUint(string(value), 10, 62)
			if err != nil {
				return got, frame, fmt.Errorf("%w: content length %q", errMalformed, value)
			}
			frame.length = int64(n)
		case is(name, "Transfer-Encoding"):
			if !is(value, "chunked") {
				return got, frame, fmt.Errorf("%w: transfer encoding %q", errMalformed, value)
			}
			frame.chunked = true
		case is(name, "Connection"):
			got.closes = is(value, "close")
		case is(name, "Retry-After"):
			got.retryAfter = true
		}
	}
	if !frame.chunked && frame.length < 0 && hasBody(got.status) {
		got.closes = true // it ends with the connection
	}
	return got, frame, nil
}

func is(text []byte, name string) bool { return bytes.EqualFold(text, []byte(name)) }

func hasBody(status int) bool { return status != 204 && status != 304 }

// readLine returns a line without its end. It is valid until the next read.
func readLine(in *bufio.Reader) ([]byte, error) {
	text, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: a line of its header is too long", errMalformed)
	}
	if err != nil {
		return nil, unexpected(err)
	}
	return bytes.TrimSuffix(text[:len(text)-1], []byte("\r")), nil
}

// unexpected is for an end of input where none may be.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func readBody(in *bufio.Reader, frame framing, status int, body *bytes.Buffer) (int64, error) {
	switch {
	case !hasBody(status):
		return 0, nil
	case frame.chunked:
		return readChunks(in, body)
	case frame.length >= 0:
		return frame.length, take(in, frame.length, body)
	case body == nil:
		return io.Copy(io.Discard, in)
	}
	return io.Copy(body, in)
}

func readChunks(in *bufio.Reader, body *bytes.Buffer) (total int64, err error) {
	for {
		text, err := readLine(in)
		if err != nil {
			return total, err
		}
		digits, _, _ := bytes.Cut(text, []byte(";")) // extensions mean nothing to us
		size, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 16, 62)
		if err != nil {
			return total, fmt.Errorf("%w: chunk size %q", errMalformed, text)
		}
		if size == 0 {
			return total, skipTrailer(in)
		}
		if err := take(in, int64(size), body); err != nil {
			return total, err
		}
		total += int64(size)
		if text, err = readLine(in); err != nil {
			return total, err
		}
		if len(text) > 0 {
			return total, fmt.Errorf("%w: %q after a chunk", errMalformed, text)
		}
	}
}

func skipTrailer(in *bufio.Reader) error {
	for {
		text, err := readLine(in)
		if err != nil || len(text) == 0 {
			return err
		}
	}
}

// take reads n bytes into the buffer, or nowhere if that is nil.
func take(in *bufio.Reader, n int64, body *bytes.Buffer) error {
	var err error
	if body == nil {
		_, err = in.Discard(int(n))
	} else {
		_, err = io.CopyN(body, in, n)
	}
	return unexpected(err)
}
