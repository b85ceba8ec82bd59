package http1

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// response writes the answer to one plain request. It is used by one goroutine
// at a time, like any http.ResponseWriter.
//
// Head and body are collected, so that a small answer goes out in one write
// with its length. What gets larger than that, or is flushed, is streamed.
type response struct {
	conn   *conn
	header http.Header
	close  bool // the client does not want, or cannot send, another request

	status   int   // 0: not decided
	declared int64 // length that the handler says, -1: none
	written  int64 // of the body
	typed    bool  // a content type is given, or none is needed
	chunked  bool
	sent     bool // the head is on its way
	head     []byte
	body     []byte
	failed   error // of a write; the connection is of no use any more
}

// maxCollected is how much of a body is collected, in bytes.
const maxCollected = 4 << 10

func (r *response) begin(closes bool) {
	*r = response{
		conn: r.conn, head: r.head[:0], body: r.body[:0],
		header: make(http.Header, 8), close: closes, declared: -1,
	}
}

// Header is what will be sent, until WriteHeader.
func (r *response) Header() http.Header { return r.header }

// EnableFullDuplex has nothing to do: the whole request is there.
func (r *response) EnableFullDuplex() error { return nil }

// SetWriteDeadline is for a client that does not take its answer.
func (r *response) SetWriteDeadline(deadline time.Time) error {
	return r.conn.SetWriteDeadline(deadline)
}

// WriteHeader decides about status and header.
func (r *response) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("http1: invalid status %d", status))
	}
	if r.status != 0 {
		return
	}
	if status < http.StatusOK && status != http.StatusSwitchingProtocols {
		r.sendInformational(status)
		return
	}
	r.status = status
	r.declared = r.declaredLength()
	r.close = r.close || strings.EqualFold(r.header.Get("Connection"), "close")
	r.typed = !bodyAllowed(status) || r.header["Content-Type"] != nil || r.header.Get("Content-Encoding") != ""
	r.head = appendStatusLine(r.head, status)
	if r.header["Date"] == nil {
		r.head = append(append(append(r.head, "Date: "...), dateNow()...), "\r\n"...)
	}
	r.head = appendFields(r.head, r.header)
}

func (r *response) sendInformational(status int) {
	head := append(appendFields(appendStatusLine(nil, status), r.header), "\r\n"...)
	r.write(head)
}

// declaredLength reads the handler's Content-Length, -1 if there is none.
func (r *response) declaredLength() int64 {
	text := r.header.Get("Content-Length")
	if text == "" {
		return -1
	}
	length, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return -1
	}
	return int64(length)
}

// bodyAllowed reports whether a response of that status can have a body.
func bodyAllowed(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}

// Write adds to the body.
func (r *response) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	switch {
	case len(p) == 0:
		return 0, r.failed
	case !bodyAllowed(r.status):
		return 0, http.ErrBodyNotAllowed
	case r.declared >= 0 && r.written+int64(len(p)) > r.declared:
		return 0, http.ErrContentLength
	}
	if !r.typed && !r.sent {
		r.typed = true
		r.head = append(append(append(r.head, "Content-Type: "...), http.DetectContentType(p)...), "\r\n"...)
	}
	r.written += int64(len(p))
	if len(r.body)+len(p) <= maxCollected {
		r.body = append(r.body, p...)
		return len(p), r.failed
	}
	r.flush(p)
	if r.failed != nil {
		return 0, r.failed
	}
	return len(p), nil
}

// FlushError sends what was written so far.
func (r *response) FlushError() error {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	r.flush(nil)
	return r.failed
}

// Flush serves handlers that ask for an http.Flusher.
func (r *response) Flush() { _ = r.FlushError() }

// flush sends the head, if that is due, what was collected, and more.
func (r *response) flush(more []byte) {
	if !r.sent {
		r.chunked = r.declared < 0 && bodyAllowed(r.status)
		r.endHead()
	}
	size := len(r.body) + len(more)
	out := r.head
	if size > 0 && r.chunked {
		out = strconv.AppendInt(out, int64(size), 16)
		out = append(out, "\r\n"...)
	}
	out = append(out, r.body...)
	end := ""
	if size > 0 && r.chunked {
		end = "\r\n"
	}
	if len(more) <= maxCollected { // one write is worth a copy
		r.write(append(append(out, more...), end...))
	} else {
		r.write(out)
		r.write(more)
		if end != "" {
			r.write([]byte(end))
		}
	}
	r.head, r.body = out[:0], r.body[:0]
}

// endHead adds what frames the message.
func (r *response) endHead() {
	r.sent = true
	switch {
	case r.chunked:
		r.head = append(r.head, "Transfer-Encoding: chunked\r\n"...)
	case r.declared >= 0 && r.status != http.StatusNoContent:
		r.head = append(strconv.AppendInt(append(r.head, "Content-Length: "...), r.declared, 10), "\r\n"...)
	}
	if r.close {
		r.head = append(r.head, "Connection: close\r\n"...)
	}
	r.head = append(r.head, "\r\n"...)
}

// finish sends what is left. It reports whether the connection can carry
// another request.
func (r *response) finish(closing bool) bool {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if !r.sent {
		if r.declared < 0 && bodyAllowed(r.status) {
			r.declared = r.written // it was all collected
		}
		r.close = r.close || closing
	}
	if !r.sent || len(r.body) > 0 {
		r.flush(nil)
	}
	if r.chunked {
		r.write([]byte("0\r\n\r\n"))
	}
	r.trim()
	return r.failed == nil && !r.close && !r.cutShort()
}

// cutShort reports whether the handler wrote less than it declared, so that the
// client waits for more.
func (r *response) cutShort() bool {
	return r.declared >= 0 && r.written != r.declared && bodyAllowed(r.status)
}

// maxKept is how large a buffer an idle connection keeps, in bytes.
const maxKept = 2 << 10

func (r *response) trim() {
	if cap(r.head) > maxKept {
		r.head = nil
	}
	if cap(r.body) > maxKept {
		r.body = nil
	}
}

// write remembers the first failure.
func (r *response) write(p []byte) {
	if r.failed == nil && len(p) > 0 {
		_, r.failed = r.conn.Conn.Write(p)
	}
}

func appendStatusLine(b []byte, status int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	if text := http.StatusText(status); text != "" {
		b = append(b, text...)
	} else {
		b = strconv.AppendInt(append(b, "status code "...), int64(status), 10)
	}
	return append(b, "\r\n"...)
}

// appendFields appends a header without what frames the message. As in
// net/http, fields that are none are left out, and no value begins a new line.
func appendFields(b []byte, header http.Header) []byte {
	for name, values := range header {
		switch name {
		case "Content-Length", "Transfer-Encoding", "Connection", "Trailer":
			continue
		}
		if !isToken(name) {
			continue
		}
		for _, value := range values {
			b = append(append(b, name...), ": "...)
			if strings.ContainsAny(value, "\r\n") {
				value = lineBreaks.Replace(value)
			}
			b = append(append(b, strings.Trim(value, " \t")...), "\r\n"...)
		}
	}
	return b
}

var lineBreaks = strings.NewReplacer("\n", " ", "\r", " ")

// dated is a moment's text for the Date field, which all responses of a second
// share.
type dated struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[dated]

func dateNow() string {
	now := time.Now()
	if last := lastDate.Load(); last != nil && last.second == now.Unix() {
		return last.text
	}
	fresh := &dated{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastDate.Store(fresh)
	return fresh.text
}
