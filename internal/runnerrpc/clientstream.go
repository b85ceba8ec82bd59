package runnerrpc

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/runnerrpc/direct"
	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
)

// clientStream is the way of one call to its runner: a stream of gRPC, or a direct
// connection. One goroutine may send while another receives. The error io.EOF of sending
// means that the stream has ended, and that receiving tells why.
type clientStream interface {
	sendTry(call *invoke.Call) error
	sendData(piece []byte, last bool) error
	flush() error // what was sent goes out now; without it, it may wait for more
	flushLater()  // it goes out when the answer is waited for, which comes next
	receive(into *part) error
	untaken(err error) bool // receiving has failed, and the runner cannot have got the try
}

// part is what a runner sends. Which field it is says its kind.
type part struct {
	kind   partKind
	header http.Header // of the answer; nil: none was told
	data   []byte
	ending ending
}

type partKind int

const (
	partNone partKind = iota
	partStart
	partData
	partEnding
)

// unsendable is an error of a call that cannot be sent to any runner.
type unsendable struct{ error }

// checkSize refuses a call that a runner would not take.
func (c *Client) checkSize(call *invoke.Call, size int) error {
	if size <= c.maxCall {
		return nil
	}
	return unsendable{fmt.Errorf("call %s is of %d bytes without its body, a runner takes %d: raise FN_GRPC_MAX_MESSAGE_SIZE on all nodes, or make the definition smaller", call.ID, size, c.maxCall)}
}

// grpcStream is a stream of gRPC.
type grpcStream struct {
	client   *Client
	stream   grpc.BidiStreamingClient[runnerpb.ClientMsg, runnerpb.RunnerMsg]
	offered  bool // the runner was asked whether it can be called directly
	broken   bool // the stream broke before it took the try
	frame    *frame
	received runnerpb.RunnerMsg
}

func (g *grpcStream) sendTry(call *invoke.Call) error {
	text, err := g.client.written.encode(call)
	if err != nil {
		return unsendable{fmt.Errorf("call %s cannot be written for a runner: %w", call.ID, err)}
	}
	if err := g.client.checkSize(call, len(text)); err != nil {
		return err
	}
	try := &runnerpb.TryCall{ModelsCallJson: text, SlotHashId: call.Slot, Extensions: call.Extensions}
	err = g.stream.Send(&runnerpb.ClientMsg{Body: &runnerpb.ClientMsg_Try{Try: try}})
	g.broken = errors.Is(err, io.EOF)
	return err
}

// frame is a message with a piece of a request, for one goroutine to send again and
// again: a message may be changed when sending it has returned.
type frame struct {
	message runnerpb.ClientMsg
	data    runnerpb.ClientMsg_Data
	piece   runnerpb.DataFrame
}

func newFrame() *frame {
	f := &frame{}
	f.data.Data = &f.piece
	f.message.Body = &f.data
	return f
}

func (g *grpcStream) sendData(piece []byte, last bool) error {
	if g.frame == nil {
		g.frame = newFrame()
	}
	g.frame.piece.Data, g.frame.piece.Eof = piece, last
	return g.stream.Send(&g.frame.message)
}

func (g *grpcStream) flush() error { return nil }

func (g *grpcStream) flushLater() {}

func (g *grpcStream) untaken(err error) bool {
	return g.broken && status.Code(err) == codes.Unavailable
}

func (g *grpcStream) receive(into *part) error {
	if err := g.stream.RecvMsg(&g.received); err != nil {
		return err
	}
	g.broken = false // who answers has got something
	g.learn()
	*into = part{}
	switch message := g.received.GetBody().(type) {
	case *runnerpb.RunnerMsg_ResultStart:
		into.kind, into.header = partStart, answerHeader(message.ResultStart.GetHttp().GetHeaders())
	case *runnerpb.RunnerMsg_Data:
		into.kind, into.data = partData, message.Data.GetData()
	case *runnerpb.RunnerMsg_Finished:
		into.kind, into.ending = partEnding, endingOf(message.Finished)
	}
	return nil
}

// learn notes whether the runner can be called directly, when it has answered.
func (g *grpcStream) learn() {
	if !g.offered {
		return
	}
	g.offered = false
	header, err := g.stream.Header()
	if err == nil && slices.Contains(header.Get(direct.MetadataKey), direct.Offer) {
		g.client.direct.Use()
	} else {
		g.client.direct.Declined()
	}
}

// answerHeader is the header of an answer.
func answerHeader(sent []*runnerpb.HttpHeader) http.Header {
	header := make(http.Header, len(sent))
	for _, h := range sent {
		name := textproto.CanonicalMIMEHeaderKey(h.GetKey())
		header[name] = append(header[name], h.GetValue())
	}
	return header
}

// endingOf is the end of a call as a message.
func endingOf(f *runnerpb.CallFinished) ending {
	return ending{
		success: f.GetSuccess(), code: int(f.GetErrorCode()), text: f.GetErrorStr(), user: f.GetErrorUser(),
		queued: time.Duration(f.GetSchedulerDuration()), execution: time.Duration(f.GetExecutionDuration()),
		image: time.Duration(f.GetImagePullWaitDuration()), prep: time.Duration(f.GetCtrPrepDuration()),
		create: time.Duration(f.GetCtrCreateDuration()), init: time.Duration(f.GetInitStartTime()),
	}
}
