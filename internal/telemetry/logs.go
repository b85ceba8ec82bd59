// Package telemetry sets up what a node tells about itself: its log and its
// metrics. Nothing in it is global; components get loggers and registries.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"time"
)

// LevelTrace is below slog's own levels.
const LevelTrace = slog.LevelDebug - 4

// LogOptions says how the log is written.
type LogOptions struct {
	Format string // "text" or "json"
	Level  slog.Level
	Dest   string    // "stderr", or "file:///path" to append to
	Stderr io.Writer // for "stderr"
}

// NewLogger returns a logger and what to close when it is no longer used.
func NewLogger(opts LogOptions) (*slog.Logger, io.Closer, error) {
	out, err := openLog(opts)
	if err != nil {
		return nil, nil, err
	}
	handlerOpts := &slog.HandlerOptions{Level: opts.Level, ReplaceAttr: adjust}
	if opts.Format == "json" {
		return slog.New(slog.NewJSONHandler(out, handlerOpts)), out, nil
	}
	return slog.New(slog.NewTextHandler(out, handlerOpts)), out, nil
}

func openLog(opts LogOptions) (io.WriteCloser, error) {
	if opts.Dest == "" || opts.Dest == "stderr" {
		return unclosed{opts.Stderr}, nil
	}
	u, err := url.Parse(opts.Dest)
	if err != nil || u.Scheme != "file" || u.Path == "" {
		return nil, fmt.Errorf("the log cannot go to %q, use stderr or file:///<path>", opts.Dest)
	}
	file, err := os.OpenFile(u.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return file, nil
}

// unclosed is a writer that belongs to somebody else.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// adjust gives the trace level its name and times their full precision.
func adjust(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return attr
	}
	switch attr.Key {
	case slog.LevelKey:
		if level, ok := attr.Value.Any().(slog.Level); ok && level == LevelTrace {
			attr.Value = slog.StringValue("TRACE")
		}
	case slog.TimeKey:
		attr.Value = slog.StringValue(attr.Value.Time().Format(time.RFC3339Nano))
	}
	return attr
}
