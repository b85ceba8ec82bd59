package gateway

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

// The encapsulation of an HTTP request and its response in a call.
const (
	httpHeaderPrefix  = "Fn-Http-H-"
	headerHTTPStatus  = "Fn-Http-Status"
	headerHTTPMethod  = "Fn-Http-Method"
	headerHTTPURL     = "Fn-Http-Request-Url"
	headerIntent      = "Fn-Intent"
	headerContentType = "Content-Type"

	intentHTTP = "httprequest"
)

// trigger serves an HTTP trigger: the client's request travels inside the
// call's headers, and the function decides about status and headers of the
// response.
func (g *Gateway) trigger(w http.ResponseWriter, r *http.Request) error {
	source := "/" + edge.Param(r, "*")
	target, err := g.opts.Catalog.ByHTTPSource(g.lookUp(r), edge.Param(r, "app_name"), source)
	if err != nil {
		return err
	}
	call := newCall(w, r, target, encapsulate(r))
	if err := g.opts.Override.Apply(r, call); err != nil {
		return err
	}
	return g.invokeSync(w, r, call, decapsulate)
}

// encapsulate renames every header but the content type, so that a client can
// set none that means something to the platform.
func encapsulate(r *http.Request) http.Header {
	stripped := r.Header.Clone()
	edge.StripHopByHop(stripped)
	header := make(http.Header, len(stripped)+3)
	for name, values := range stripped {
		if name == headerContentType {
			header[name] = values
		} else {
			header[httpHeaderPrefix+name] = values
		}
	}
	header.Set(headerHTTPMethod, r.Method)
	header.Set(headerHTTPURL, requestURL(r))
	header.Set(headerIntent, intentHTTP)
	return header
}

// requestURL is the URL as the client meant it.
func requestURL(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	uri := r.URL.RequestURI()
	if !strings.HasPrefix(uri, "/") { // a CONNECT request, or one meant for a proxy
		uri = r.URL.EscapedPath()
	}
	return scheme + "://" + r.Host + uri
}

// decapsulate gives the client the headers that the function meant for it:
// prefixed ones and the content type, nothing else. What frames the message is
// the server's business.
func decapsulate(client, answer http.Header) (int, error) {
	status, err := httpStatus(answer)
	if err != nil {
		return 0, err
	}
	meant := make(http.Header, len(answer))
	for name, values := range answer {
		if bare, ok := strings.CutPrefix(name, httpHeaderPrefix); ok && bare != "" {
			bare = http.CanonicalHeaderKey(bare)
			meant[bare] = append(meant[bare], values...)
		}
	}
	if contentType, ok := answer[headerContentType]; ok {
		meant[headerContentType] = contentType
	}
	edge.StripHopByHop(meant)
	meant.Del("Content-Length")
	for name, values := range meant {
		client[name] = values
	}
	return status, nil
}

// Statuses that a function may choose for a final response.
const (
	minHTTPStatus = 200
	maxHTTPStatus = 599
)

// httpStatus returns the status that the function chose, 200 by default.
func httpStatus(answer http.Header) (int, error) {
	status, err := strconv.Atoi(answer.Get(headerHTTPStatus))
	if err != nil || status <= 0 {
		return http.StatusOK, nil
	}
	if status < minHTTPStatus || status > maxHTTPStatus {
		return 0, model.ErrFunctionInvalidResponse
	}
	return status, nil
}
