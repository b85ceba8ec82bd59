package runnerrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/tinefn/tine/internal/runnerrpc/direct"
	"github.com/tinefn/tine/invoke"
)

// directServerStream is a direct connection.
type directServerStream struct {
	*direct.ServerStream
	definitions *definitions
	received    *invoke.Call // the try
	id          string       // of its request
	refused     error        // why it is none
}

// knownDefinitions are those that came on a connection, by their number.
type knownDefinitions [connectionDefinitions]definition

func (d *directServerStream) context() context.Context { return d.Context() }

func (d *directServerStream) requestID() string { return d.id }

func (d *directServerStream) receiveTry() error {
	for {
		kind, content, err := d.Receive()
		if err != nil {
			return err
		}
		switch kind {
		case kindDefinition:
			d.refused = d.define(content)
		case kindCall:
			if d.refused == nil {
				d.received, d.id, d.refused = readCall(content, d.definition)
			}
			return nil
		default:
			return errNotATry
		}
	}
}

// define remembers a definition. One that cannot be read is forgotten, with what had its
// number.
func (d *directServerStream) define(content []byte) error {
	c := compact{left: string(content)}
	number := c.number()
	if c.failed || number >= connectionDefinitions {
		return errCompact
	}
	known, ok := (*d.Memory()).(*knownDefinitions)
	if !ok {
		known = &knownDefinitions{}
		*d.Memory() = known
	}
	known[number] = definition{}
	var m definitionPart
	if err := json.Unmarshal([]byte("{"+c.left+"}"), &m); err != nil {
		return fmt.Errorf("the call cannot be read: its definition: %w", err)
	}
	if err := m.check(); err != nil {
		return err
	}
	known[number] = d.definitions.of(&m)
	return nil
}

func (d *directServerStream) definition(number uint64) (definition, bool) {
	known, ok := (*d.Memory()).(*knownDefinitions)
	if !ok || number >= connectionDefinitions || known[number].fn == nil {
		return definition{}, false
	}
	return known[number], true
}

func (d *directServerStream) call() (*invoke.Call, error) { return d.received, d.refused }

func (d *directServerStream) receiveData() (piece []byte, last bool, err error) {
	kind, content, err := d.Receive()
	if err != nil {
		return nil, false, err
	}
	if kind != kindData && kind != kindLast {
		return nil, false, errNoData
	}
	piece = slices.Clone(content)
	if kind == kindLast {
		d.EndRequest() // after which the next call may be received
	}
	return piece, kind == kindLast, nil
}

func (d *directServerStream) sendStart(code int, header http.Header) error {
	return d.Add(kindStart, func(b []byte) []byte { return appendStart(b, code, header) })
}

func (d *directServerStream) sendData(piece []byte) error {
	return d.Add(kindData, func(b []byte) []byte { return append(b, piece...) })
}

func (d *directServerStream) sendEnding(e *ending) error {
	return d.Add(kindFinished, func(b []byte) []byte { return appendEnding(b, e) })
}

func (d *directServerStream) flush() error { return d.Flush() }

var errNoIdentifier = errors.New("the call cannot be read: it has no identifier, or one that is no plain text")
