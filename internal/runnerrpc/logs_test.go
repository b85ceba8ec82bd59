package runnerrpc

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
)

// fewLogs is a source with a number of batches.
type fewLogs struct {
	config  map[string]string
	acked   []bool
	batches int
	wait    bool // for ever, behind the last one
	closed  chan struct{}
}

func (l *fewLogs) OpenLogs(_ context.Context, config map[string]string) (LogReader, error) {
	l.config = config
	return l, nil
}

func (l *fewLogs) Next(ctx context.Context, acked bool) ([]ContainerLog, error) {
	l.acked = append(l.acked, acked)
	if l.batches--; l.batches < 0 {
		if l.wait {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, io.EOF
	}
	line := LogLine{At: time.UnixMilli(1234), Stderr: true, Text: []byte("hello")}
	return []ContainerLog{{AppID: "a", FnID: "f", ContainerID: "c", Requests: []RequestLog{{RequestID: "r", Lines: []LogLine{line, {Text: []byte("x")}}}}}}, nil
}

func (l *fewLogs) Close() error {
	close(l.closed)
	return nil
}

var (
	logStart = &runnerpb.LogRequestMsg{Body: &runnerpb.LogRequestMsg_Start_{Start: &runnerpb.LogRequestMsg_Start{Config: map[string]string{"k": "v"}}}}
	logReady = &runnerpb.LogRequestMsg{Body: &runnerpb.LogRequestMsg_Ready_{}}
	logAck   = &runnerpb.LogRequestMsg{Body: &runnerpb.LogRequestMsg_Ack_{}}
)

func TestLogsComeInBatches(t *testing.T) {
	logs := &fewLogs{batches: 2, closed: make(chan struct{})}
	_, address := serve(t, ServerOptions{Invoker: echo, Logs: logs})
	stream, err := peer(t, address).StreamLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(logStart)
	for _, request := range []*runnerpb.LogRequestMsg{logReady, logAck} {
		stream.Send(request)
		batch, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		lines := batch.GetData()[0].GetData()[0].GetData()
		if len(lines) != 2 || lines[0].GetTimestamp() != 1234 || lines[0].GetSource() != runnerpb.LogResponseMsg_Container_Request_Line_STDERR ||
			string(lines[0].GetData()) != "hello" || batch.GetData()[0].GetApplicationId() != "a" || batch.GetData()[0].GetData()[0].GetRequestId() != "r" {
			t.Errorf("got %v", batch)
		}
	}
	stream.Send(logAck)
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	<-logs.closed
	if logs.config["k"] != "v" || len(logs.acked) != 3 || logs.acked[0] || !logs.acked[1] {
		t.Errorf("got %v, %v", logs.config, logs.acked)
	}
}

func TestLogProtocolIsKept(t *testing.T) {
	for name, test := range map[string]struct {
		logs     LogSource
		messages []*runnerpb.LogRequestMsg
		code     codes.Code
	}{
		"nobody has logs": {nil, []*runnerpb.LogRequestMsg{logStart}, codes.Unimplemented},
		"no start":        {&fewLogs{closed: make(chan struct{})}, []*runnerpb.LogRequestMsg{logReady}, codes.InvalidArgument},
		"two starts":      {&fewLogs{closed: make(chan struct{})}, []*runnerpb.LogRequestMsg{logStart, logStart}, codes.InvalidArgument},
		"end":             {&fewLogs{closed: make(chan struct{})}, []*runnerpb.LogRequestMsg{logStart}, codes.OK},
	} {
		_, address := serve(t, ServerOptions{Invoker: echo, Logs: test.logs})
		stream, err := peer(t, address).StreamLogs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range test.messages {
			stream.Send(message)
		}
		stream.CloseSend()
		_, err = stream.Recv()
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if status.Code(err) != test.code {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestReadersOfLogsDoNotKeepARunnerFromStopping(t *testing.T) {
	logs := &fewLogs{wait: true, closed: make(chan struct{})}
	server, address := serve(t, ServerOptions{Invoker: echo, Logs: logs})
	stream, err := peer(t, address).StreamLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(logStart)
	stream.Send(logReady)
	idle, err := peer(t, address).StreamLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		t.Error(err)
	}
	for _, s := range []interface {
		Recv() (*runnerpb.LogResponseMsg, error)
	}{stream, idle} {
		if _, err := s.Recv(); err == nil {
			t.Error("it goes on")
		}
	}
}
