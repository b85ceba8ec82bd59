package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
)

// LogSource has what functions have printed.
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

// StreamLogs delivers what functions print to a reader, a batch for each request.
func (s *Server) StreamLogs(stream grpc.BidiStreamingServer[runnerpb.LogRequestMsg, runnerpb.LogResponseMsg]) (err error) {
	if s.opts.Logs == nil {
		return status.Error(codes.Unimplemented, "runner not configured with logStreamer")
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	begin, ok := first.GetBody().(*runnerpb.LogRequestMsg_Start_)
	if !ok {
		return breached("the first message is no start")
	}
	// A reader does not keep the runner from stopping.
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.draining, cancel)()
	reader, err := s.opts.Logs.OpenLogs(ctx, begin.Start.GetConfig())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	requests := s.logRequests(ctx, stream)
	for {
		select {
		case <-s.draining.Done():
			return status.Error(codes.Unavailable, "the runner stops")
		case request, ok := <-requests:
			if !ok {
				return nil
			}
			if request.err != nil {
				return request.err
			}
			batch, err := reader.Next(ctx, request.acked)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("logs of functions: %w", err)
			}
			if err := stream.Send(logMessage(batch)); err != nil {
				return err
			}
		}
	}
}

// logRequest asks for a batch.
type logRequest struct {
	acked bool
	err   error // that ends the stream
}

// logRequests receives what a reader asks for. The channel is closed when it asks for
// nothing more.
func (s *Server) logRequests(ctx context.Context, stream grpc.BidiStreamingServer[runnerpb.LogRequestMsg, runnerpb.LogResponseMsg]) <-chan logRequest {
	requests := make(chan logRequest)
	s.pumps.Go(func() {
		defer close(requests)
		for {
			message, err := stream.Recv()
			var request logRequest
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				request.err = err
			default:
				switch message.GetBody().(type) {
				case *runnerpb.LogRequestMsg_Ack_:
					request.acked = true
				case *runnerpb.LogRequestMsg_Ready_:
				default:
					request.err = breached("a message that is neither ack nor ready came after the start")
				}
			}
			select {
			case requests <- request:
			case <-ctx.Done():
				return
			}
			if request.err != nil {
				return
			}
		}
	})
	return requests
}

// logMessage is a batch as it travels.
func logMessage(batch []ContainerLog) *runnerpb.LogResponseMsg {
	message := &runnerpb.LogResponseMsg{}
	for _, c := range batch {
		container := &runnerpb.LogResponseMsg_Container{ApplicationId: c.AppID, FunctionId: c.FnID, ContainerId: c.ContainerID}
		for _, r := range c.Requests {
			request := &runnerpb.LogResponseMsg_Container_Request{RequestId: r.RequestID}
			for _, l := range r.Lines {
				line := &runnerpb.LogResponseMsg_Container_Request_Line{Timestamp: l.At.UnixMilli(), Data: l.Text}
				if l.Stderr {
					line.Source = runnerpb.LogResponseMsg_Container_Request_Line_STDERR
				}
				request.Data = append(request.Data, line)
			}
			container.Data = append(container.Data, request)
		}
		message.Data = append(message.Data, container)
	}
	return message
}
