package runnerrpc

import (
	"context"
	"errors"
	"io"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
)

// serverStream is the way of one call from its load balancer: a stream of gRPC, or a
// direct connection. One goroutine may send while another receives. Errors are those
// that the stream ends with, except that io.EOF means that no more will come.
type serverStream interface {
	context() context.Context
	call() (*invoke.Call, error) // of the try; the error is the call's
	requestID() string           // of the try, "" if it has none
	receiveData() (piece []byte, last bool, err error)
	sendStart(code int, header http.Header) error
	sendData(piece []byte) error
	sendEnding(e *ending) error
	flush() error // what was sent goes out now; without it, it may wait for more
}

var errNotATry = breached("the first message is no try")

// grpcServerStream is a stream of gRPC.
type grpcServerStream struct {
	stream      grpc.BidiStreamingServer[runnerpb.ClientMsg, runnerpb.RunnerMsg]
	definitions *definitions
	try         *runnerpb.TryCall
	piece       *piece
}

func (g *grpcServerStream) context() context.Context { return g.stream.Context() }

func (g *grpcServerStream) receiveTry() error {
	message, err := g.stream.Recv()
	if errors.Is(err, io.EOF) {
		return status.Error(busyCode, "the stream ended before a try")
	}
	if err != nil {
		return err
	}
	try, ok := message.GetBody().(*runnerpb.ClientMsg_Try)
	if !ok {
		return errNotATry
	}
	g.try = try.Try
	return nil
}

func (g *grpcServerStream) call() (*invoke.Call, error) {
	call, err := g.definitions.decodeCall(g.try.GetModelsCallJson())
	if err != nil {
		return nil, err
	}
	call.Slot, call.Extensions = g.try.GetSlotHashId(), g.try.GetExtensions()
	return call, nil
}

func (g *grpcServerStream) requestID() string {
	if ids := metadata.ValueFromIncomingContext(g.stream.Context(), requestIDKey); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

func (g *grpcServerStream) receiveData() (data []byte, last bool, err error) {
	var message runnerpb.ClientMsg
	if err := g.stream.RecvMsg(&message); err != nil {
		return nil, false, err
	}
	of, ok := message.GetBody().(*runnerpb.ClientMsg_Data)
	if !ok {
		return nil, false, errNoData
	}
	return of.Data.GetData(), of.Data.GetEof(), nil
}

func (g *grpcServerStream) sendStart(code int, header http.Header) error {
	meta := &runnerpb.CallResultStart_Http{Http: &runnerpb.HttpRespMeta{StatusCode: int32(code), Headers: headersOf(header)}}
	return g.stream.Send(&runnerpb.RunnerMsg{Body: &runnerpb.RunnerMsg_ResultStart{ResultStart: &runnerpb.CallResultStart{Meta: meta}}})
}

// headersOf is an answer's header as it travels.
func headersOf(header http.Header) []*runnerpb.HttpHeader {
	count := 0
	for _, values := range header {
		count += len(values)
	}
	all := make([]runnerpb.HttpHeader, count)
	headers := make([]*runnerpb.HttpHeader, 0, count)
	for name, values := range header {
		for _, value := range values {
			h := &all[len(headers)]
			h.Key, h.Value = name, value
			headers = append(headers, h)
		}
	}
	return headers
}

// piece is a message with a piece of an answer. It may be used again when sending it
// has returned: it was encoded then.
type piece struct {
	message runnerpb.RunnerMsg
	data    runnerpb.RunnerMsg_Data
	frame   runnerpb.DataFrame
}

func newPiece() *piece {
	p := &piece{}
	p.data.Data = &p.frame
	p.message.Body = &p.data
	return p
}

func (g *grpcServerStream) sendData(data []byte) error {
	if g.piece == nil {
		g.piece = newPiece()
	}
	g.piece.frame.Data = data
	return g.stream.Send(&g.piece.message)
}

func (g *grpcServerStream) sendEnding(e *ending) error {
	finished := &runnerpb.CallFinished{
		Success: e.success, Details: e.callID, ErrorCode: int32(e.code), ErrorStr: e.text, ErrorUser: e.user, Image: e.imageName, //nolint:gosec // a status of HTTP
		CreatedAt: timestamp(e.created), StartedAt: timestamp(e.started), CompletedAt: timestamp(e.completed),
		SchedulerDuration: int64(e.queued), ExecutionDuration: int64(e.execution),
		ImagePullWaitDuration: int64(e.image), CtrPrepDuration: int64(e.prep), CtrCreateDuration: int64(e.create), InitStartTime: int64(e.init),
	}
	return g.stream.Send(&runnerpb.RunnerMsg{Body: &runnerpb.RunnerMsg_Finished{Finished: finished}})
}

func (g *grpcServerStream) flush() error { return nil }

// contextOf is a call's context, with the identifier that the load balancer gave.
func contextOf(stream serverStream) context.Context {
	ctx := stream.context()
	if id := stream.requestID(); id != "" {
		return edge.WithRequestID(ctx, id)
	}
	return ctx
}
