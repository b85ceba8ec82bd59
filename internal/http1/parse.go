package http1

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// Bounds of a plain request, in bytes and lines. Larger ones are for net/http,
// which streams them.
const (
	maxPlainHead  = 4 << 10
	maxPlainBody  = 64 << 10
	maxPlainLines = 64
)

// verdict says what to do with the bytes that have arrived.
type verdict int

const (
	notPlain  verdict = iota // they are for net/http
	plain                    // a whole request
	needsBody                // the head of one
)

// head is a request without its body.
type head struct {
	request *http.Request // without context and body
	bytes   int           // of the head on the wire
	body    int           // likewise of the body
}

// parse reads the request at the beginning of buf (RFC 9112). It accepts only
// what leaves no room for interpretation, and exactly as net/http would.
func parse(buf []byte) (head, verdict) {
	end := bytes.Index(buf, []byte("\r\n\r\n"))
	if end < 0 || end > maxPlainHead {
		return head{}, notPlain
	}
	text := string(buf[:end+2]) // every line with its end
	line, rest, _ := strings.Cut(text, "\r\n")
	request := parseRequestLine(line)
	if request == nil {
		return head{}, notPlain
	}
	if !parseFields(request, rest) {
		return head{}, notPlain
	}
	h := head{request: request, bytes: end + 4, body: int(request.ContentLength)}
	if len(buf) < h.bytes+h.body {
		return h, needsBody
	}
	return h, plain
}

// isPlainMethod leaves out those whose messages have rules of their own.
func isPlainMethod(method string) bool {
	switch method {
	case http.MethodPost, http.MethodGet, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return true
	}
	return false
}

func parseRequestLine(line string) *http.Request {
	method, rest, _ := strings.Cut(line, " ")
	target, proto, _ := strings.Cut(rest, " ")
	if !isPlainMethod(method) || proto != "HTTP/1.1" || !strings.HasPrefix(target, "/") || !isVisible(target) {
		return nil
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil
	}
	return &http.Request{
		Method: method, URL: u, RequestURI: target,
		Proto: proto, ProtoMajor: 1, ProtoMinor: 1,
	}
}

// parseFields reads the header lines into the request. False means that one of
// them is not plain.
func parseFields(request *http.Request, lines string) bool {
	count := strings.Count(lines, "\r\n")
	if count > maxPlainLines {
		return false
	}
	request.Header = make(http.Header, count)
	values := make([]string, count) // of all fields, so that they take one allocation
	for i := range count {
		var line string
		line, lines, _ = strings.Cut(lines, "\r\n")
		name, value, found := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !found || !isToken(name) || !isText(value) {
			return false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if !parseField(request, name, value) {
			return false
		}
		if earlier := request.Header[name]; earlier != nil {
			request.Header[name] = append(earlier, value)
			continue
		}
		values[i] = value
		request.Header[name] = values[i : i+1 : i+1]
	}
	host := request.Header["Host"]
	if len(host) != 1 || len(request.Header["Content-Length"]) > 1 || !isHost(host[0]) {
		return false
	}
	request.Host = host[0]
	delete(request.Header, "Host")
	return true
}

// parseField looks at fields that mean something for the message itself. False
// means that the message is not plain.
func parseField(request *http.Request, name, value string) bool {
	switch name {
	case "Content-Length":
		length, err := strconv.ParseUint(value, 10, 63)
		if err != nil || length > maxPlainBody {
			return false
		}
		request.ContentLength = int64(length)
	case "Connection":
		if len(request.Header[name]) > 0 {
			return false
		}
		request.Close = strings.EqualFold(value, "close")
		return request.Close || strings.EqualFold(value, "keep-alive")
	case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Http2-Settings", "Pragma":
		return false
	}
	return true
}

// The classes of characters, RFC 9110 section 5.6.2 and RFC 3986.
var isTokenByte, isHostByte [256]bool

func init() {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		isTokenByte[c] = true
	}
	for _, c := range []byte("-.:[]_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		isHostByte[c] = true
	}
}

func isToken(text string) bool { return text != "" && consistsOf(text, &isTokenByte) }

func isHost(text string) bool { return text != "" && consistsOf(text, &isHostByte) }

func consistsOf(text string, class *[256]bool) bool {
	for i := range len(text) {
		if !class[text[i]] {
			return false
		}
	}
	return true
}

// isText reports whether a field's value has no control characters but tabs.
func isText(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isVisible(text string) bool {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
