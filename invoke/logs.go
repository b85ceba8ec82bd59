package invoke

import (
	"context"
	"time"
)

// LogSource has what functions have printed, for readers of a runner's StreamLogs. It
// must be safe for concurrent use.
type LogSource interface {
	// OpenLogs begins to deliver. Config is the reader's; keys that the source does
	// not know are no error.
	OpenLogs(ctx context.Context, config map[string]string) (LogReader, error)
}

// LogReader delivers batches to one reader. It is used by one goroutine.
type LogReader interface {
	// Next waits for something to deliver. Acked says that the reader has stored the
	// batch before. The error io.EOF ends the stream in order.
	Next(ctx context.Context, acked bool) ([]ContainerLog, error)
	Close() error
}

// ContainerLog is what one container printed.
type ContainerLog struct {
	AppID, FnID, ContainerID string
	Requests                 []RequestLog
}

// RequestLog is what a container printed in one call.
type RequestLog struct {
	RequestID string
	Lines     []LogLine
}

// LogLine is one line, without its end.
type LogLine struct {
	At     time.Time // to the millisecond
	Stderr bool      // otherwise it was printed to the standard output
	Text   []byte
}
