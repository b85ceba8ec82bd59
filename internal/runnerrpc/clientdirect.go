package runnerrpc

import (
	"encoding/binary"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/runnerrpc/direct"
	"github.com/tinefn/tine/invoke"
)

// directStream is a direct connection.
type directStream struct {
	*direct.Stream
	client    *Client
	requestID string
}

// sentDefinitions are those that a connection's other side knows, by their number.
type sentDefinitions struct {
	numbers map[definition]int
	next    int
}

// number returns that of a definition, and whether it must be sent: the oldest gives its
// number up when there are too many.
func (s *sentDefinitions) number(of definition) (number int, fresh bool) {
	if number, ok := s.numbers[of]; ok {
		return number, false
	}
	if s.numbers == nil {
		s.numbers = map[definition]int{}
	}
	number = s.next % connectionDefinitions
	if s.next++; s.next > connectionDefinitions {
		for old, n := range s.numbers {
			if n == number {
				delete(s.numbers, old)
			}
		}
	}
	s.numbers[of] = number
	return number, true
}

func (d directStream) sendTry(call *invoke.Call) error {
	sent, ok := (*d.Memory()).(*sentDefinitions)
	if !ok {
		sent = &sentDefinitions{}
		*d.Memory() = sent
	}
	number, fresh := sent.number(definition{call.App, call.Fn})
	size := 0
	if fresh {
		text, err := d.client.written.of(call.App, call.Fn)
		if err != nil {
			return unsendable{fmt.Errorf("call %s cannot be written for a runner: %w", call.ID, err)}
		}
		size = d.Add(kindDefinition, func(b []byte) []byte {
			return append(binary.AppendUvarint(b, uint64(number)), text...) //nolint:gosec // it is not negative
		})
	}
	size += d.Add(kindCall, func(b []byte) []byte { return appendCall(b, call, number, d.requestID) })
	d.EndTry()
	return d.client.checkSize(call, size)
}

func (d directStream) sendData(piece []byte, last bool) error {
	if last {
		return d.AddLast(kindLast, piece)
	}
	return d.AddPiece(kindData, piece)
}

func (d directStream) flush() error { return d.Flush() }

func (d directStream) flushLater() { _ = d.FlushLater() } // receiving tells why

func (d directStream) untaken(error) bool { return d.Unsent() }

func (d directStream) receive(into *part) error {
	kind, content, err := d.Receive()
	if err != nil {
		return err
	}
	*into = part{}
	switch kind {
	case kindStart:
		into.kind = partStart
		into.header, err = readStart(content)
	case kindData:
		into.kind, into.data = partData, slices.Clone(content)
	case kindFinished:
		into.kind = partEnding
		into.ending, err = readEnding(content)
	default:
		err = fmt.Errorf("a frame of kind %q came from it", kind)
	}
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}
