package runner

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/internal/syslog"
	"github.com/tinefn/tine/invoke"
)

// What is kept of an instance's output: lines are cut to maxLine, the last ones
// of a call are kept for the case that it fails. In bytes and lines.
const (
	maxLine      = 8 << 10
	maxTailBytes = 4 << 10
	maxTailLines = 40
)

// DefaultMaxLogBytes is how much of one call's output is logged where no other
// limit is set.
const DefaultMaxLogBytes = 1 << 20

// outputOf makes consoles for a function's instances, or nothing if nobody
// wants what they print.
func (r *Runner) outputOf(call *invoke.Call) func(string) pool.Output {
	url := ""
	if call.App.SyslogURL != nil {
		url = strings.TrimSpace(*call.App.SyslogURL)
	}
	if !r.opts.LogOutput && (url == "" || r.opts.Syslog == nil) {
		return nil
	}
	ids := syslog.Line{AppID: call.Fn.AppID, FnID: call.Fn.ID}
	log := r.opts.Logger.With(
		slog.Bool("user_log", true), slog.String("app_id", call.Fn.AppID),
		slog.String("fn_id", call.Fn.ID), slog.String("image", call.Fn.Image))
	return func(instanceID string) pool.Output {
		c := &console{ids: ids, maxBytes: r.opts.MaxLogBytes}
		c.ids.InstanceID = instanceID
		c.left = c.maxBytes
		if r.opts.LogOutput {
			c.log = log.With(slog.String("container_id", instanceID))
		}
		if url != "" && r.opts.Syslog != nil {
			c.syslog = r.opts.Syslog.Open(url)
		}
		c.stdout = lineWriter{console: c, severity: syslog.Info}
		c.stderr = lineWriter{console: c, severity: syslog.Error}
		return c
	}
}

// console is where one instance's output goes, line by line: to the log at
// debug level, to the app's syslog server, and into the memory of the last
// lines. It never fails who writes.
type console struct {
	stdout, stderr lineWriter
	log            *slog.Logger   // nil: not logged
	syslog         *syslog.Writer // nil: none
	maxBytes       int64

	mu     sync.Mutex // guards the rest
	ids    syslog.Line
	endsAt time.Time // of what is assigned to the last call; zero: it runs, or is forgotten
	turn   int       // counts calls
	left   int64     // bytes that may still be logged of the call
	lines  []tailLine
	bytes  int // of lines
}

// tailLine is one of the last lines and the call in which it was printed.
type tailLine struct {
	turn int
	text string
}

func (c *console) Stdout() io.Writer { return &c.stdout }
func (c *console) Stderr() io.Writer { return &c.stderr }

// Close writes what has no newline at its end.
func (c *console) Close() error {
	c.stdout.flush()
	c.stderr.flush()
	if c.syslog != nil {
		c.syslog.Close()
	}
	return nil
}

// begin assigns what is printed from now on to a call. Its turn is for last.
func (c *console) begin(callID string) (turn int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids.CallID, c.left, c.endsAt = callID, c.maxBytes, time.Time{}
	c.turn++
	return c.turn
}

// end ends that, but for what comes within the time that output takes: it was
// printed before the answer.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endsAt = time.Now().Add(outputPatience)
}

// settle forgets a call that ended and whose output has come.
func (c *console) settle(now time.Time) {
	if !c.endsAt.IsZero() && now.After(c.endsAt) {
		c.ids.CallID, c.left, c.endsAt = "", c.maxBytes, time.Time{}
	}
}

// last returns the last lines that were printed in a turn; 0 is that before the
// first call.
func (c *console) last(turn int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	for _, line := range c.lines {
		if line.turn == turn {
			lines = append(lines, line.text)
		}
	}
	return lines
}

func (c *console) line(severity syslog.Severity, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.settle(now)
	if c.log != nil {
		c.keep(text)
	}
	if c.left < 0 {
		return
	}
	c.left -= int64(len(text)) + 1
	if c.left < 0 { // the form is Fn's
		text = fmt.Sprintf("-----max log size %d bytes exceeded, truncating log-----", c.maxBytes)
	}
	if c.log != nil && c.log.Enabled(context.Background(), slog.LevelDebug) {
		c.log.LogAttrs(context.Background(), slog.LevelDebug, text, slog.String("call_id", c.ids.CallID))
	}
	if c.syslog != nil {
		line := c.ids
		line.Time, line.Severity, line.Text = now, severity, text
		c.syslog.Write(line)
	}
}

// keep remembers a line and forgets the oldest ones that are too many.
func (c *console) keep(text string) {
	text = text[:min(len(text), maxTailBytes)]
	c.lines = append(c.lines, tailLine{c.turn, text})
	c.bytes += len(text)
	surplus := 0
	for c.bytes > maxTailBytes || len(c.lines)-surplus > maxTailLines {
		c.bytes -= len(c.lines[surplus].text)
		surplus++
	}
	c.lines = slices.Delete(c.lines, 0, surplus)
}

// lineWriter cuts what is written into lines. It is used by one goroutine at a
// time.
type lineWriter struct {
	console  *console
	severity syslog.Severity
	rest     []byte // the beginning of a line that has not ended
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found && len(w.rest) >= maxLine || len(line) > maxLine {
			line, rest, found = w.rest[:maxLine], w.rest[maxLine:], true
		}
		if !found {
			break
		}
		w.emit(line)
		w.rest = rest
	}
	if len(w.rest) == 0 {
		w.rest = nil
	}
	return len(p), nil
}

func (w *lineWriter) flush() {
	w.emit(w.rest)
	w.rest = nil
}

func (w *lineWriter) emit(line []byte) {
	if line = bytes.TrimRight(line, "\r"); len(line) > 0 {
		w.console.line(w.severity, string(line))
	}
}
