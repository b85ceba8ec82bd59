package runner

import (
	"bytes"
	"context"
	"io"
	"log/slog"

	"github.com/tinefn/tine/invoke"
)

// maxLogLine is the longest line of a function's output that goes to the log
// in one piece, in bytes.
const maxLogLine = 8 << 10

// outputOf makes sinks that write a function's output to the log, line by line.
func (r *Runner) outputOf(call *invoke.Call) func(string) io.WriteCloser {
	log := r.opts.Logger.With(
		slog.Bool("user_log", true), slog.String("app_id", call.Fn.AppID),
		slog.String("fn_id", call.Fn.ID), slog.String("image", call.Fn.Image))
	return func(instanceID string) io.WriteCloser {
		return &lineLogger{log: log.With(slog.String("container_id", instanceID))}
	}
}

// lineLogger writes each line to the log at debug level. It is used by one
// goroutine at a time.
type lineLogger struct {
	log  *slog.Logger
	rest []byte // the beginning of a line that has not ended
}

func (l *lineLogger) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found && len(l.rest) >= maxLogLine {
			line, rest, found = l.rest[:maxLogLine], l.rest[maxLogLine:], true
		}
		if !found {
			break
		}
		l.emit(line)
		l.rest = rest
	}
	if len(l.rest) == 0 {
		l.rest = nil
	}
	return len(p), nil
}

// Close writes what has no newline at its end.
func (l *lineLogger) Close() error {
	l.emit(l.rest)
	l.rest = nil
	return nil
}

func (l *lineLogger) emit(line []byte) {
	if line = bytes.TrimRight(line, "\r"); len(line) > 0 {
		l.log.LogAttrs(context.Background(), slog.LevelDebug, string(line))
	}
}
