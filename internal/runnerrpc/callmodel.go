package runnerrpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	ID          string                     `json:"id"`
	Status      string                     `json:"status"`
	Image       string                     `json:"image,omitempty"`
	Delay       int32                      `json:"delay,omitempty"`
	Type        string                     `json:"type,omitempty"`
	Payload     string                     `json:"payload,omitempty"`
	URL         string                     `json:"url,omitempty"`
	Method      string                     `json:"method,omitempty"`
	Timeout     int32                      `json:"timeout,omitempty"`
	IdleTimeout int32                      `json:"idle_timeout,omitempty"`
	TmpfsSize   uint32                     `json:"tmpfs_size,omitempty"`
	Memory      uint64                     `json:"memory,omitempty"`
	CPUs        milliCPU                   `json:"cpus,omitempty"`
	Config      model.Config               `json:"config,omitempty"`
	Annotations map[string]json.RawMessage `json:"annotations,omitempty"`
	Headers     map[string][]string        `json:"headers,omitempty"`
	SyslogURL   string                     `json:"syslog_url,omitempty"`

	CompletedAt       model.Timestamp `json:"completed_at"`
	CreatedAt         model.Timestamp `json:"created_at"`
	StartedAt         model.Timestamp `json:"started_at"`
	ExecutionDuration int64           `json:"execution_duration,omitempty"` // ns
	Stats             json.RawMessage `json:"stats,omitempty"`
	Error             string          `json:"error,omitempty"`

	AppID     string `json:"app_id"`
	AppName   string `json:"app_name"`
	TriggerID string `json:"trigger_id"`
	FnID      string `json:"fn_id"`

	Tine *tineModel `json:"tine,omitempty"`
}

// tineModel is what only Tine's nodes tell each other. Fn's runners ignore it.
type tineModel struct {
	FnName       string          `json:"fn_name,omitempty"`
	AppUpdatedAt model.Timestamp `json:"app_updated_at"`
	FnUpdatedAt  model.Timestamp `json:"fn_updated_at"`
	NoNetwork    bool            `json:"no_network,omitempty"`
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

// encodeCall writes what a runner has to know of a call, except for its body.
func encodeCall(call *invoke.Call) ([]byte, error) {
	now := model.Now()
	m := callModel{
		ID: call.ID, Status: "running", Image: call.Fn.Image, Type: typeSync, Method: http.MethodPost, URL: requestURL(call),
		Timeout: call.Fn.Timeout, IdleTimeout: call.Fn.IdleTimeout, Memory: call.Fn.Memory, Headers: call.Header,
		CPUs: milliCPU(min(max(call.Container.MilliCPU, 0), maxMilliCPU)), TmpfsSize: uint32(min(max(call.Container.TmpMiB, 0), math.MaxUint32)),
		Config: config(call), Annotations: annotations(call),
		CreatedAt: now, StartedAt: now,
		AppID: call.Fn.AppID, AppName: call.App.Name, FnID: call.Fn.ID,
		Tine: &tineModel{
			FnName: call.Fn.Name, AppUpdatedAt: call.App.UpdatedAt, FnUpdatedAt: call.Fn.UpdatedAt, NoNetwork: call.Container.NoNetwork,
		},
	}
	if call.App.SyslogURL != nil {
		m.SyslogURL = *call.App.SyslogURL
	}
	if call.Trigger != nil {
		m.TriggerID = call.Trigger.ID
	}
	if call.Detached {
		m.Type = typeDetached
	}
	if method := call.Header.Get("Fn-Http-Method"); method != "" {
		m.Method = method
	}
	if call.ContentLength >= 0 && call.Header.Get("Content-Length") == "" {
		m.Headers = withLength(call.Header, call.ContentLength)
	}
	return json.Marshal(m)
}

// withLength is a header that tells how long the body is, so that the runner need
// not wait for its end to know it.
func withLength(header http.Header, length int64) http.Header {
	with := maps.Clone(header)
	if with == nil {
		with = http.Header{}
	}
	with["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	return with
}

// requestURL is where the call came from. Nothing is sent there: runners of Fn
// make a request of it and want it to be absolute.
func requestURL(call *invoke.Call) string {
	made := url.URL{Scheme: "http", Host: "localhost", Path: "/invoke/" + call.Fn.ID}
	if asked, err := url.Parse(call.Header.Get("Fn-Http-Request-Url")); err == nil && strings.HasPrefix(asked.Path, "/") {
		made.Path, made.RawPath, made.RawQuery = asked.Path, asked.RawPath, asked.RawQuery
	}
	return made.String()
}

// config is what the function's process gets of its definition and that of its
// app. Source: the runner protocol.
func config(call *invoke.Call) model.Config {
	merged := model.Environment(call.App, call.Fn)
	maps.Copy(merged, model.Config{
		"FN_MEMORY": strconv.FormatUint(call.Fn.Memory, 10), "FN_TYPE": typeSync, "FN_FN_ID": call.Fn.ID, "FN_APP_ID": call.Fn.AppID,
	})
	return merged
}

// annotations are those of the app, and those of the function over them.
func annotations(call *invoke.Call) map[string]json.RawMessage {
	merged := make(map[string]json.RawMessage, len(call.App.Annotations)+len(call.Fn.Annotations))
	maps.Copy(merged, call.App.Annotations)
	maps.Copy(merged, call.Fn.Annotations)
	return merged
}

// maxCallText bounds identifiers and names, in bytes. Those of Fn are of 255 at
// most.
const maxCallText = 1 << 10

// decodeCall reads a call and its definition. Its body is missing: ContentLength
// is what the header says of it. A definition that is known already is not made
// again: App and Fn are the same objects then.
func (d *definitions) decodeCall(text string) (*invoke.Call, error) {
	var m callModel
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, fmt.Errorf("the call cannot be read: %w", err)
	}
	return d.callOf(&m)
}

func (d *definitions) callOf(m *callModel) (*invoke.Call, error) {
	switch {
	case m.ID == "" || len(m.ID) > maxCallText || !isVisible(m.ID):
		return nil, errors.New("the call cannot be read: it has no identifier, or one that is no plain text")
	case m.Image == "":
		return nil, errors.New("the call cannot be read: it names no image")
	case m.Timeout < 0 || m.IdleTimeout < 0:
		return nil, errors.New("the call cannot be read: it has a negative time")
	case len(m.FnID) > maxCallText || len(m.AppID) > maxCallText:
		return nil, errors.New("the call cannot be read: it has an identifier that is too long")
	}
	app, fn := d.of(m)
	call := &invoke.Call{
		ID: m.ID, App: app, Fn: fn, Header: header(m.Headers), Body: http.NoBody, Detached: m.Type == typeDetached,
		Container: invoke.Container{TmpMiB: int64(m.TmpfsSize), MilliCPU: int64(m.CPUs)},
	}
	if m.Tine != nil {
		call.Container.NoNetwork = m.Tine.NoNetwork
	}
	if m.TriggerID != "" {
		call.Trigger = &model.Trigger{ID: m.TriggerID, AppID: m.AppID, FnID: m.FnID}
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
