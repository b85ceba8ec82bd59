package gateway

import (
	"net/http"

	"github.com/tinefn/tine/internal/catalog"
	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// The headers of the protocol between clients, server and functions.
const (
	headerCallID     = "Fn-Call-Id"
	headerInvokeType = "Fn-Invoke-Type"
	headerFDKVersion = "Fn-Fdk-Version"

	invokeTypeDetached = "detached"
)

// invoke serves a direct invocation: the request goes to the function as it
// is, and the answer comes back as the function's container gave it, always
// with status 200.
func (g *Gateway) invoke(w http.ResponseWriter, r *http.Request) error {
	target, err := g.opts.Catalog.ByFnID(g.lookUp(r), edge.Param(r, "fn_id"))
	if err != nil {
		return err
	}
	detached := r.Header.Get(headerInvokeType) == invokeTypeDetached
	edge.StripHopByHop(r.Header) // which is the call's from here on
	call := newCall(w, r, target, r.Header)
	if err := g.opts.Override.Apply(r, call); err != nil {
		return err
	}
	if detached {
		return g.invokeDetached(w, r, call)
	}
	return g.invokeSync(w, r, call, directHeader)
}

// newCall makes a call of a request.
func newCall(w http.ResponseWriter, r *http.Request, target catalog.Target, header http.Header) *invoke.Call {
	call := &invoke.Call{
		ID: model.NewID(), App: target.App, Fn: target.Fn, Trigger: target.Trigger,
		Header: header, Body: http.NoBody,
	}
	if r.Body == nil || r.Body == http.NoBody {
		return call
	}
	call.Body, call.ContentLength = r.Body, r.ContentLength
	if _, held := r.Body.(*invoke.HeldBody); !held {
		call.Body = newClientBody(w, r)
	}
	return call
}

// headerMap decides which headers of an answer reach the client, and with
// which status.
type headerMap func(client, answer http.Header) (status int, err error)

// invokeSync executes a call and sends its answer to the client that waits.
func (g *Gateway) invokeSync(w http.ResponseWriter, r *http.Request, call *invoke.Call, mapHeader headerMap) error {
	w.Header().Set(headerCallID, call.ID)
	body, _ := call.Body.(*clientBody)
	response, err := g.opts.Invoker.Invoke(r.Context(), call)
	body.settle(w)
	if err != nil {
		return g.callFailed(w, body.blame(err))
	}
	edge.NoteFDKVersion(r, response.Header.Get(headerFDKVersion))
	status, err := mapHeader(w.Header(), response.Header)
	if err != nil {
		return withClose(err, response.Body)
	}
	return send(w, status, response)
}

// callFailed takes the identifier back from a client whose call was never
// admitted. Of a call that was sent to another node, that is its identifier there.
func (g *Gateway) callFailed(w http.ResponseWriter, err error) error {
	if model.Describe(err).Kind == model.ErrTooBigForNode && !g.opts.Forwards {
		w.Header().Del(headerCallID)
	}
	return err
}

// directHeader passes everything on but hop-by-hop headers.
func directHeader(client, answer http.Header) (int, error) {
	edge.StripHopByHop(answer)
	for name, values := range answer {
		client[name] = append(client[name], values...)
	}
	return http.StatusOK, nil
}
