package runnerrpc

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// The types of a call.
const (
	typeSync     = "sync"
	typeDetached = "detached"
)

// callModel is a call and its definition as they travel, in JSON. Source: the
// runner protocol; sizes are in MiB, times in seconds. What the other side
// writes beyond it is ignored.
type callModel struct {
	callPart
	definitionPart
}

// callPart is what is different in every call.
type callPart struct {
	ID        string              `json:"id"`
	Status    string              `json:"status"`
	Delay     int32               `json:"delay,omitempty"`
	Type      string              `json:"type,omitempty"`
	Payload   string              `json:"payload,omitempty"`
	URL       string              `json:"url,omitempty"`
	Method    string              `json:"method,omitempty"`
	TmpfsSize uint32              `json:"tmpfs_size,omitempty"`
	CPUs      milliCPU            `json:"cpus,omitempty"`
	Headers   map[string][]string `json:"headers,omitempty"`

	CompletedAt       model.Timestamp `json:"completed_at"`
	CreatedAt         model.Timestamp `json:"created_at"`
	StartedAt         model.Timestamp `json:"started_at"`
	ExecutionDuration int64           `json:"execution_duration,omitempty"` // ns
	Stats             json.RawMessage `json:"stats,omitempty"`
	Error             string          `json:"error,omitempty"`

	TriggerID string `json:"trigger_id"`

	// Of Tine's nodes only; Fn's runners ignore it.
	Tine *tineCall `json:"tine_call,omitempty"`
}

// tineCall is what only Tine's nodes tell each other about a call.
type tineCall struct {
	NoNetwork bool `json:"no_network,omitempty"`
}

// definitionPart is what is the same in all calls of a function.
type definitionPart struct {
	Image       string                     `json:"image,omitempty"`
	Timeout     int32                      `json:"timeout,omitempty"`
	IdleTimeout int32                      `json:"idle_timeout,omitempty"`
	Memory      uint64                     `json:"memory,omitempty"`
	Config      model.Config               `json:"config,omitempty"`
	Annotations map[string]json.RawMessage `json:"annotations,omitempty"`
	SyslogURL   string                     `json:"syslog_url,omitempty"`

	AppID   string `json:"app_id"`
	AppName string `json:"app_name"`
	FnID    string `json:"fn_id"`

	// Of Tine's nodes only; Fn's runners ignore it.
	Tine *tineDefinition `json:"tine,omitempty"`
}

// tineDefinition is what only Tine's nodes tell each other about a function.
type tineDefinition struct {
	FnName       string          `json:"fn_name,omitempty"`
	AppUpdatedAt model.Timestamp `json:"app_updated_at"`
	FnUpdatedAt  model.Timestamp `json:"fn_updated_at"`
}

// milliCPU is processor time, 1000 is one processor. Its text is a number of
// processors such as "0.25", or thousandths such as "250m"; it is written in
// the latter form.
type milliCPU int64

// maxMilliCPU is the largest processor time. Source: the runner protocol.
const maxMilliCPU = 1_024_000

// MarshalJSON writes thousandths.
func (c milliCPU) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(int64(c), 10) + `m"`), nil
}

// UnmarshalJSON reads both forms; empty text is 0.
func (c *milliCPU) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	if text == "" {
		*c = 0
		return nil
	}
	var milli float64
	var err error
	if thousandths, ok := strings.CutSuffix(text, "m"); ok {
		var n uint64
		n, err = strconv.ParseUint(thousandths, 10, 32)
		milli = float64(n)
	} else {
		milli, err = strconv.ParseFloat(text, 64)
		milli = math.Round(milli * 1000)
	}
	if err != nil || !(milli >= 0 && milli <= maxMilliCPU) {
		return fmt.Errorf("cpus %q is no processor time from 0 to %dm", text, maxMilliCPU)
	}
	*c = milliCPU(milli)
	return nil
}

// usualHeaderBytes is room for what is told of a call beside its definition.
const usualHeaderBytes = 640

// never is the time of what has not happened.
var never = model.Timestamp{}.String()

// encode writes what a runner has to know of a call, except for its body.
func (d *encodedDefinitions) encode(call *invoke.Call) (string, error) {
	definition, err := d.of(call.App, call.Fn)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.Grow(len(definition) + usualHeaderBytes)
	b.WriteString(`{"id":`)
	writeText(&b, call.ID)
	b.WriteString(`,"status":"running","type":"`)
	b.WriteString(typeOf(call))
	b.WriteString(`","url":`)
	writeText(&b, requestURL(call))
	b.WriteString(`,"method":`)
	writeText(&b, cmp.Or(call.Header.Get("Fn-Http-Method"), http.MethodPost))
	if milli := min(max(call.Container.MilliCPU, 0), maxMilliCPU); milli > 0 {
		fmt.Fprintf(&b, `,"cpus":"%dm"`, milli)
	}
	if mib := min(max(call.Container.TmpMiB, 0), math.MaxUint32); mib > 0 {
		fmt.Fprintf(&b, `,"tmpfs_size":%d`, mib)
	}
	if call.Container.NoNetwork {
		b.WriteString(`,"tine_call":{"no_network":true}`)
	}
	writeHeader(&b, call)
	now := model.Now().String()
	for _, text := range []string{`,"created_at":"`, now, `","started_at":"`, now, `","completed_at":"`, never, `","trigger_id":`} {
		b.WriteString(text)
	}
	if call.Trigger != nil {
		writeText(&b, call.Trigger.ID)
	} else {
		b.WriteString(`""`)
	}
	b.WriteString(",")
	b.WriteString(definition)
	b.WriteString("}")
	return b.String(), nil
}

func typeOf(call *invoke.Call) string {
	if call.Detached {
		return typeDetached
	}
	return typeSync
}

// writeHeader writes the header, with the body's length if it is known, so that the
// runner need not wait for the body's end to know it.
func writeHeader(b *strings.Builder, call *invoke.Call) {
	b.WriteString(`,"headers":{`)
	length := ""
	if call.ContentLength >= 0 {
		length = strconv.FormatInt(call.ContentLength, 10)
		b.WriteString(`"Content-Length":["` + length + `"]`)
	}
	first := length == ""
	for name, values := range call.Header {
		if name == "Content-Length" && length != "" {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		writeText(b, name)
		b.WriteString(":[")
		for i, value := range values {
			if i > 0 {
				b.WriteByte(',')
			}
			writeText(b, value)
		}
		b.WriteByte(']')
	}
	b.WriteByte('}')
}

// writeText writes a JSON string.
func writeText(b *strings.Builder, text string) {
	if isPlain(text) {
		b.WriteByte('"')
		b.WriteString(text)
		b.WriteByte('"')
		return
	}
	quoted, err := json.Marshal(text)
	if err != nil { // cannot happen: any text has a JSON form
		panic(err)
	}
	b.Write(quoted)
}

// isPlain accepts text that is the same in JSON.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// requestURL is where the call came from. Nothing is sent there: runners of Fn
// make a request of it and want it to be absolute.
func requestURL(call *invoke.Call) string {
	if of := call.Header["Fn-Http-Request-Url"]; len(of) > 0 {
		if asked, err := url.Parse(of[0]); err == nil && strings.HasPrefix(asked.Path, "/") {
			made := url.URL{Scheme: "http", Host: "localhost", Path: asked.Path, RawPath: asked.RawPath, RawQuery: asked.RawQuery}
			return made.String()
		}
	}
	return "http://localhost/invoke/" + url.PathEscape(call.Fn.ID)
}

// maxCallText bounds identifiers and names, in bytes. Those of Fn are of 255 at
// most.
const maxCallText = 1 << 10

// decodeCall reads a call and its definition. Its body is missing: ContentLength
// is what the header says of it. A definition that is known already is not made
// again: App and Fn are the same objects then.
func (d *definitions) decodeCall(text string) (*invoke.Call, error) {
	if call := d.decodeFast(text); call != nil {
		return call, nil
	}
	var m callModel
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, fmt.Errorf("the call cannot be read: %w", err)
	}
	if err := m.definitionPart.check(); err != nil {
		return nil, err
	}
	known := d.of(&m.definitionPart)
	return m.callPart.call(known)
}

// check refuses what is no definition of a function.
func (m *definitionPart) check() error {
	switch {
	case m.Image == "":
		return errors.New("the call cannot be read: it names no image")
	case m.Timeout < 0 || m.IdleTimeout < 0:
		return errors.New("the call cannot be read: it has a negative time")
	case len(m.FnID) > maxCallText || len(m.AppID) > maxCallText:
		return errors.New("the call cannot be read: it has an identifier that is too long")
	}
	return nil
}

// call makes a call of a function.
func (m *callPart) call(of definition) (*invoke.Call, error) {
	if m.ID == "" || len(m.ID) > maxCallText || !isVisible(m.ID) {
		return nil, errNoIdentifier
	}
	call := &invoke.Call{
		ID: m.ID, App: of.app, Fn: of.fn, Header: header(m.Headers), Body: http.NoBody, Detached: m.Type == typeDetached,
		Container: invoke.Container{TmpMiB: int64(m.TmpfsSize), MilliCPU: int64(m.CPUs)},
	}
	if m.Tine != nil {
		call.Container.NoNetwork = m.Tine.NoNetwork
	}
	if m.TriggerID != "" {
		call.Trigger = &model.Trigger{ID: m.TriggerID, AppID: of.fn.AppID, FnID: of.fn.ID}
	}
	call.ContentLength = declaredLength(call.Header)
	return call, nil
}

// isVisible accepts printable ASCII without blanks: it goes into headers and logs.
func isVisible(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// header is the header of a call as the function may see it.
func header(sent map[string][]string) http.Header {
	h := make(http.Header, len(sent))
	for name, values := range sent {
		name = textproto.CanonicalMIMEHeaderKey(name)
		h[name] = append(h[name], values...)
	}
	edge.StripHopByHop(h)
	return h
}

// declaredLength is what a header says of the length of what follows, -1 if
// nothing that can be understood.
func declaredLength(h http.Header) int64 {
	values := h["Content-Length"]
	if len(values) != 1 {
		return -1
	}
	length, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil {
		return -1
	}
	return int64(length)
}
