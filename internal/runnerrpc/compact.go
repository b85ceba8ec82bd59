package runnerrpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// What Tine's nodes tell each other on direct connections has a form of its own, which
// takes a fifth of the work of JSON in protobuf. Numbers are unsigned varints, texts have
// their length before them. A definition is sent once on each connection, as the members
// of its JSON, and is then named by its number.

// The kinds of frames, beside that of the stream's end.
const (
	kindDefinition byte = 'f' // number, members of the JSON
	kindCall       byte = 'c' // appendCall
	kindData       byte = 'd' // a piece of a body
	kindLast       byte = 'l' // the last piece of a request's
	kindStart      byte = 's' // appendStart
	kindFinished   byte = 'z' // appendEnding
)

// connectionDefinitions is how many definitions a connection knows at one time.
const connectionDefinitions = 256

// Flags of a call and of its end.
const (
	flagDetached = 1 << iota
	flagNoNetwork
	flagLength // the body's length is known
	flagTrigger
)

const (
	flagSuccess = 1 << iota
	flagUser
)

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// appendCall writes a call without its body. The number is of its definition.
func appendCall(b []byte, call *invoke.Call, number int, requestID string) []byte {
	flags := uint64(0)
	if call.Detached {
		flags |= flagDetached
	}
	if call.Container.NoNetwork {
		flags |= flagNoNetwork
	}
	if call.ContentLength >= 0 {
		flags |= flagLength
	}
	if call.Trigger != nil {
		flags |= flagTrigger
	}
	for _, n := range [...]uint64{
		uint64(number), flags, uint64(max(call.ContentLength, 0)), //nolint:gosec // none is negative
		uint64(min(max(call.Container.MilliCPU, 0), maxMilliCPU)), uint64(min(max(call.Container.TmpMiB, 0), math.MaxUint32)), //nolint:gosec // likewise
	} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendText(b, call.ID)
	b = appendText(b, requestID)
	if call.Trigger != nil {
		b = appendText(b, call.Trigger.ID)
	}
	b = appendText(b, call.Slot)
	b = appendHeader(b, call.Header)
	b = binary.AppendUvarint(b, uint64(len(call.Extensions)))
	for name, value := range call.Extensions {
		b = appendText(appendText(b, name), value)
	}
	return b
}

// appendHeader writes fields, each with all of its values.
func appendHeader(b []byte, header http.Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(header)))
	for name, values := range header {
		b = binary.AppendUvarint(appendText(b, name), uint64(len(values)))
		for _, value := range values {
			b = appendText(b, value)
		}
	}
	return b
}

// compact reads what was written so. After a failure all is empty.
type compact struct {
	left   string
	failed bool
}

func (c *compact) number() uint64 {
	n, shift := uint64(0), 0
	for i := range len(c.left) {
		bits := uint64(c.left[i] & 0x7f)
		if shift > 63-7 && bits>>(63-min(shift, 63)) != 0 { // no number that is sent needs the highest bit
			break
		}
		n |= bits << shift
		if c.left[i] < 0x80 {
			c.left = c.left[i+1:]
			return n
		}
		shift += 7
	}
	c.fail()
	return 0
}

func (c *compact) fail() { c.left, c.failed = "", true }

func (c *compact) text() string {
	n := c.number()
	if n > uint64(len(c.left)) {
		c.fail()
		return ""
	}
	text := c.left[:n]
	c.left = c.left[n:]
	return text
}

// count reads how many of something follow, each of at least a byte.
func (c *compact) count() int {
	n := c.number()
	if n > uint64(len(c.left)) {
		c.fail()
		return 0
	}
	return int(n) //nolint:gosec // it is no larger than a length
}

// usualFields is room for the fields of most headers. How many there are is believed when
// they are there.
const usualFields = 32

func (c *compact) header() http.Header {
	count := c.count()
	header := make(http.Header, min(count, usualFields))
	values := make([]string, 0, min(count, usualFields)) // of all fields, of which most have one
	for range count {
		name := textproto.CanonicalMIMEHeaderKey(c.text())
		first := len(values)
		for range c.count() {
			values = append(values, c.text())
		}
		of := values[first:len(values):len(values)]
		if more, twice := header[name]; twice {
			of = append(more, of...)
		}
		header[name] = of
	}
	return header
}

var errCompact = errors.New("the call cannot be read: it is cut off or damaged")

// readCall reads a call and the identifier of its request. Its definition is found by its
// number.
func readCall(content []byte, definitionOf func(number uint64) (definition, bool)) (call *invoke.Call, requestID string, err error) {
	c := compact{left: string(content)}
	number, flags, length := c.number(), c.number(), c.number()
	milliCPU, tmpMiB := c.number(), c.number()
	of, ok := definitionOf(number)
	if !ok {
		return nil, "", fmt.Errorf("the call cannot be read: its definition, number %d, was not sent", number)
	}
	call = &invoke.Call{
		App: of.app, Fn: of.fn, Body: http.NoBody, Detached: flags&flagDetached != 0,
		Container: invoke.Container{TmpMiB: int64(tmpMiB), MilliCPU: int64(milliCPU), NoNetwork: flags&flagNoNetwork != 0}, //nolint:gosec // number bounds them
	}
	call.ID = c.text()
	requestID = c.text()
	if flags&flagTrigger != 0 {
		call.Trigger = &model.Trigger{ID: c.text(), AppID: of.fn.AppID, FnID: of.fn.ID}
	}
	call.Slot = c.text()
	call.Header = c.header()
	if count := c.count(); count > 0 {
		call.Extensions = make(map[string]string, min(count, usualFields))
		for range count {
			name := c.text()
			call.Extensions[name] = c.text()
		}
	}
	edge.StripHopByHop(call.Header)
	call.ContentLength = declaredLength(call.Header)
	if flags&flagLength != 0 {
		call.ContentLength = int64(length) //nolint:gosec // number bounds it
		call.Header["Content-Length"] = []string{fmt.Sprint(length)}
	}
	switch {
	case c.failed:
		return nil, "", errCompact
	case call.ID == "" || len(call.ID) > maxCallText || !isVisible(call.ID):
		return nil, "", errNoIdentifier
	case milliCPU > maxMilliCPU:
		return nil, "", fmt.Errorf("the call cannot be read: cpus is %d thousandths, the limit %d", milliCPU, maxMilliCPU)
	case tmpMiB > math.MaxUint32:
		return nil, "", fmt.Errorf("the call cannot be read: tmpfs_size is %d MiB, the limit %d", tmpMiB, uint32(math.MaxUint32))
	}
	return call, requestID, nil
}

// appendStart writes the beginning of an answer.
func appendStart(b []byte, code int, header http.Header) []byte {
	return appendHeader(binary.AppendUvarint(b, uint64(code)), header) //nolint:gosec // a status of HTTP
}

func readStart(content []byte) (http.Header, error) {
	c := compact{left: string(content)}
	c.number() // the status, which says nothing that is not known
	header := c.header()
	if c.failed {
		return nil, errCompact
	}
	return header, nil
}

// ending is the end of a call.
type ending struct {
	success bool
	code    int    // HTTP status; 0: the error is not for clients
	text    string // of the error
	user    bool   // the function is at fault, not the platform

	queued, execution, image, prep, create, init time.Duration

	// What only peers of Fn are told.
	callID, imageName           string
	created, started, completed time.Time
}

func appendEnding(b []byte, e *ending) []byte {
	flags := uint64(0)
	if e.success {
		flags |= flagSuccess
	}
	if e.user {
		flags |= flagUser
	}
	b = binary.AppendUvarint(binary.AppendUvarint(b, flags), uint64(e.code)) //nolint:gosec // a status of HTTP
	for _, d := range [...]time.Duration{e.queued, e.execution, e.image, e.prep, e.create, e.init} {
		b = binary.AppendUvarint(b, uint64(max(d, 0))) //nolint:gosec // it is not negative
	}
	return appendText(b, strings.ToValidUTF8(e.text, "\uFFFD"))
}

func readEnding(content []byte) (e ending, err error) {
	c := compact{left: string(content)}
	flags := c.number()
	e.success, e.user = flags&flagSuccess != 0, flags&flagUser != 0
	e.code = int(c.number()) //nolint:gosec // number bounds it
	for _, d := range [...]*time.Duration{&e.queued, &e.execution, &e.image, &e.prep, &e.create, &e.init} {
		*d = time.Duration(c.number()) //nolint:gosec // number bounds it
	}
	e.text = c.text()
	if c.failed {
		return ending{}, errCompact
	}
	return e, nil
}
