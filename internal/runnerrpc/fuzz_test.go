package runnerrpc

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
)

// pipe is a stream whose messages come from bytes: each is as long as the byte
// before it says.
type pipe struct {
	grpc.ServerStream
	ctx  context.Context
	rest []byte
	sent []proto.Message
}

func (p *pipe) Context() context.Context { return p.ctx }

func (p *pipe) RecvMsg(m any) error {
	if len(p.rest) == 0 {
		return io.EOF
	}
	n := min(int(p.rest[0]), len(p.rest)-1)
	raw := p.rest[1 : n+1]
	p.rest = p.rest[n+1:]
	return proto.Unmarshal(raw, m.(proto.Message))
}

func (p *pipe) SendMsg(m any) error {
	p.sent = append(p.sent, proto.Clone(m.(proto.Message)))
	return nil
}

func packed(t testing.TB, messages ...proto.Message) (all []byte) {
	for _, m := range messages {
		raw, err := proto.Marshal(m)
		if err != nil || len(raw) > 255 {
			t.Fatal(len(raw), err)
		}
		all = append(append(all, byte(len(raw))), raw...)
	}
	return all
}

const shortModel = `{"id":"x","image":"y","headers":{"Content-Length":["2"]}}`

// FuzzEngage gives a runner what a load balancer may send.
func FuzzEngage(f *testing.F) {
	f.Add(packed(f, tryOf(shortModel), dataOf("ab", true)))
	f.Add(packed(f, tryOf(`{"id":"x","image":"y","type":"detached"}`), dataOf("a", false), dataOf("b", false), dataOf("", true)))
	f.Add(packed(f, dataOf("a", true), tryOf(shortModel)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		server, err := NewServer(ServerOptions{Invoker: echo, Detached: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stream := &pipe{ctx: ctx, rest: raw}
		err = server.Engage(&grpc.GenericServerStream[runnerpb.ClientMsg, runnerpb.RunnerMsg]{ServerStream: stream})
		cancel()
		ends := 0
		for i, m := range stream.sent {
			message := m.(*runnerpb.RunnerMsg)
			if message.GetFinished() != nil {
				ends++
				if i != len(stream.sent)-1 {
					t.Error("the end is not the last message")
				}
			}
			if message.GetResultStart() != nil && i != 0 {
				t.Error("the beginning is not the first message")
			}
		}
		if (err == nil) != (ends == 1) {
			t.Errorf("%d ends, %v", ends, err)
		}
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// answers is a stream of a load balancer, whose runner's messages come from bytes.
type answers struct {
	grpc.ClientStream
	pipe
}

func (a *answers) Context() context.Context { return a.ctx }
func (a *answers) RecvMsg(m any) error      { return a.pipe.RecvMsg(m) }
func (a *answers) SendMsg(any) error        { return nil }

// FuzzAnswer gives a load balancer what a runner may send.
func FuzzAnswer(f *testing.F) {
	f.Add(packed(f, startOf("Content-Length", "2"), pieceOf("ab"), endOf(success)))
	f.Add(packed(f, startOf(), pieceOf("a"), pieceOf("b"), endOf(&runnerpb.CallFinished{ErrorCode: 503})))
	f.Add(packed(f, pieceOf("a"), startOf(), endOf(success)))
	f.Add(packed(f, endOf(success), endOf(success)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		client := &Client{address: "runner", idle: make(chan struct{})}
		if err := client.begin(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		stream := &grpc.GenericClientStream[runnerpb.ClientMsg, runnerpb.RunnerMsg]{ClientStream: &answers{pipe: pipe{ctx: ctx, rest: raw}}}
		a := &attempt{client: client, call: newCall("x"), ctx: t.Context(), cancel: cancel, stream: &grpcStream{client: client, stream: stream}}
		response, err := a.run()
		if err != nil {
			a.end()
		} else {
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		if ctx.Err() == nil || client.calls != 0 {
			t.Errorf("the call is not over: %d", client.calls)
		}
		if errors.Is(err, invoke.ErrNotPlaced) && a.received.kind == partNone && len(raw) == 0 {
			t.Error("nothing proves that the call was not executed")
		}
	})
}
