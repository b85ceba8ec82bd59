package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// modes are the behaviours that the header Testfn-Mode selects; the package
// comment describes them.
var modes = map[string]func(f *fn, w http.ResponseWriter, r *http.Request){
	"echo":    echo,
	"reply":   reply,
	"count":   count,
	"bytes":   sendBytes,
	"chunks":  sendChunks,
	"headers": sendHeaders,
	"early":   answerEarly,
	"garbage": sendGarbage,
	"reset":   reset,
	"hang":    hang,
	"panic":   stopMidBody,
	"crash":   crashMidBody,
	"output":  writeOutput,
	"flood":   floodOutput,
	"inspect": answerReport,
	"replace": replaceSocket,
}

// begin does what all modes with a proper answer have in common.
func begin(w http.ResponseWriter, r *http.Request) {
	time.Sleep(time.Duration(number(parameter(r, "Testfn-Delay-Ms"), 0)) * time.Millisecond)
	if parameter(r, "Testfn-Close") != "" {
		w.Header().Set("Connection", "close")
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	w.WriteHeader(number(parameter(r, "Testfn-Status"), http.StatusOK))
}

func size(r *http.Request) int { return max(number(parameter(r, "Testfn-Size"), 0), 0) }

// drain reads the rest of the request; a server that went away is noticed by
// the answer.
func drain(r *http.Request) int64 {
	n, _ := io.Copy(io.Discard, r.Body)
	return n
}

// echo streams both ways at once: the first byte is answered before the last
// one has arrived.
func echo(_ *fn, w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if control.EnableFullDuplex() != nil {
		panic(http.ErrAbortHandler) // not HTTP/1
	}
	if contentType := r.Header.Get("Content-Type"); contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	begin(w, r)
	_ = control.Flush() // a lost connection is noticed below
	buffer := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				panic(http.ErrAbortHandler)
			}
			_ = control.Flush()
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// reply answers in one piece, as function kits do for what a function returns.
func reply(_ *fn, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if contentType := r.Header.Get("Content-Type"); contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	begin(w, r)
	_, _ = w.Write(body) // a lost connection is the caller's
}

func count(_ *fn, w http.ResponseWriter, r *http.Request) {
	n := drain(r)
	begin(w, r)
	fmt.Fprint(w, n)
}

func sendBytes(_ *fn, w http.ResponseWriter, r *http.Request) {
	drain(r)
	n := size(r)
	if parameter(r, "Testfn-Chunked") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(n))
	}
	begin(w, r)
	block := []byte(strings.Repeat("x", 32<<10))
	for n > 0 {
		written, err := w.Write(block[:min(n, len(block))])
		if err != nil {
			return
		}
		n -= written
	}
}

func sendChunks(f *fn, w http.ResponseWriter, r *http.Request) {
	drain(r)
	interval := time.Duration(number(parameter(r, "Testfn-Interval-Ms"), 0)) * time.Millisecond
	control := http.NewResponseController(w)
	begin(w, r)
	chunk := strings.Repeat("x", size(r))
	for i := range number(parameter(r, "Testfn-Count"), 1) {
		if i > 0 {
			f.pause(interval)
		}
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
		_ = control.Flush() // a lost connection is noticed by the next write
	}
}

func sendHeaders(_ *fn, w http.ResponseWriter, r *http.Request) {
	drain(r)
	value := strings.Repeat("x", size(r))
	for i := range number(parameter(r, "Testfn-Count"), 1) {
		setHeader(w, r, fmt.Sprintf("X-Testfn-%d", i), value)
	}
	begin(w, r)
}

func answerEarly(_ *fn, w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if control.EnableFullDuplex() != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len("early")))
	begin(w, r)
	fmt.Fprint(w, "early")
	_ = control.Flush()
	drain(r)
}

// sendGarbage and reset take the connection from the HTTP server.
func sendGarbage(_ *fn, w http.ResponseWriter, r *http.Request) {
	hijack(w, r, "this is not HTTP\r\n\r\n")
}
func reset(_ *fn, w http.ResponseWriter, r *http.Request) { hijack(w, r, "") }

func hijack(w http.ResponseWriter, r *http.Request, last string) {
	drain(r)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(conn, last) // the connection ends either way
	_ = conn.Close()
}

// hang does not notice that its caller left, like a function in an endless loop.
func hang(f *fn, _ http.ResponseWriter, r *http.Request) {
	drain(r)
	<-f.stopped
	panic(http.ErrAbortHandler)
}

func half(w http.ResponseWriter, r *http.Request) {
	drain(r)
	w.Header().Set("Content-Length", "100")
	begin(w, r)
	_, _ = io.WriteString(w, strings.Repeat("x", 50)) // the connection ends anyway
	_ = http.NewResponseController(w).Flush()
}

func stopMidBody(_ *fn, w http.ResponseWriter, r *http.Request) {
	half(w, r)
	panic(http.ErrAbortHandler)
}

func crashMidBody(f *fn, w http.ResponseWriter, r *http.Request) {
	half(w, r)
	f.exit(1)
}

func writeOutput(f *fn, w http.ResponseWriter, r *http.Request) {
	drain(r)
	if text := parameter(r, "Testfn-Stdout"); text != "" {
		fmt.Fprintln(f.stdout, text)
	}
	if text := parameter(r, "Testfn-Stderr"); text != "" {
		fmt.Fprintln(f.stderr, text)
	}
	begin(w, r)
}

// floodOutput writes lines of 100 bytes, to both streams in turn.
func floodOutput(f *fn, w http.ResponseWriter, r *http.Request) {
	drain(r)
	line := strings.Repeat("x", 99) + "\n"
	for written := 0; written < size(r); written += 2 * len(line) {
		_, _ = io.WriteString(f.stdout, line) // who does not read it is the server
		_, _ = io.WriteString(f.stderr, line)
	}
	begin(w, r)
}

func answerReport(_ *fn, w http.ResponseWriter, r *http.Request) {
	drain(r)
	w.Header().Set("Content-Type", "application/json")
	begin(w, r)
	_ = inspect(r.Header).write(w) // a server that went away gets no report
}

// pause sleeps unless the function is to end.
func (f *fn) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.stopped:
	}
}
