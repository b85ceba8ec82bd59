package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
)

// What is delivered is public, for programs with a source of their own.
type (
	LogSource    = invoke.LogSource
	LogReader    = invoke.LogReader
	ContainerLog = invoke.ContainerLog
	RequestLog   = invoke.RequestLog
	LogLine      = invoke.LogLine
)

// logStream is a runner's side of a stream of logs.
type logStream = grpc.BidiStreamingServer[runnerpb.LogRequestMsg, runnerpb.LogResponseMsg]

// StreamLogs delivers what functions print to a reader, a batch for each request.
func (s *Server) StreamLogs(stream logStream) (err error) {
	if s.opts.Logs == nil {
		return status.Error(codes.Unimplemented, "runner not configured with logStreamer")
	}
	// A reader does not keep the runner from stopping.
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.draining, cancel)()
	requests := s.logRequests(ctx, stream)
	first, err := s.nextLogRequest(requests)
	if err != nil {
		return endOfLogs(err)
	}
	begin, ok := first.GetBody().(*runnerpb.LogRequestMsg_Start_)
	if !ok {
		return breached("the first message is no start")
	}
	reader, err := s.opts.Logs.OpenLogs(ctx, begin.Start.GetConfig())
	if err != nil {
		return err
	}
	for err == nil {
		err = s.deliverLogs(ctx, stream, reader, requests)
	}
	return errors.Join(endOfLogs(err), reader.Close())
}

// endOfLogs is how a stream ends that ended with an error.
func endOfLogs(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// deliverLogs waits for a request and sends what it asks for.
func (s *Server) deliverLogs(ctx context.Context, stream logStream, reader LogReader, requests <-chan logRequest) error {
	request, err := s.nextLogRequest(requests)
	if err != nil {
		return err
	}
	_, acked := request.GetBody().(*runnerpb.LogRequestMsg_Ack_)
	if _, ready := request.GetBody().(*runnerpb.LogRequestMsg_Ready_); !acked && !ready {
		return breached("a message that is neither ack nor ready came after the start")
	}
	batch, err := reader.Next(ctx, acked)
	switch {
	case err == nil:
		return stream.Send(logMessage(batch))
	case errors.Is(err, io.EOF):
		return err
	}
	return fmt.Errorf("logs of functions: %w", err)
}

// logRequest is a message of a reader, or why there are no more.
type logRequest struct {
	message *runnerpb.LogRequestMsg
	err     error
}

// nextLogRequest waits for a message.
func (s *Server) nextLogRequest(requests <-chan logRequest) (*runnerpb.LogRequestMsg, error) {
	select {
	case request := <-requests:
		return request.message, request.err
	case <-s.draining.Done():
		return nil, status.Error(codes.Unavailable, "the runner stops")
	}
}

// logRequests receives a reader's messages until ctx ends or one is an error.
func (s *Server) logRequests(ctx context.Context, stream logStream) <-chan logRequest {
	requests := make(chan logRequest)
	s.pumps.Go(func() {
		for {
			message, err := stream.Recv()
			select {
			case requests <- logRequest{message, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
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
