package http1

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlainRequests(t *testing.T) {
	const call = "POST /invoke/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n"
	for _, test := range []struct {
		name, wire string
		want       verdict
	}{
		{"call", call + "abc", plain},
		{"call and another one", call + "abc" + call, plain},
		{"body to come", call + "ab", needsBody},
		{"no body", "GET /v2/apps?x=y HTTP/1.1\r\nHost: h:80\r\n\r\n", plain},
		{"closes", "GET / HTTP/1.1\r\nHost: [::1]:80\r\nConnection: Close\r\n\r\n", plain},
		{"keeps alive", "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", plain},
		{"values with spaces", "GET / HTTP/1.1\r\nHost:h\r\nA: \t b c\t \r\nA:\r\n\r\n", plain},

		{"nothing", "", notPlain},
		{"part of a head", "POST / HTTP/1.1\r\nHost: h\r\n", notPlain},
		{"head", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", notPlain},
		{"older", "GET / HTTP/1.0\r\nHost: h\r\n\r\n", notPlain},
		{"newer", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", notPlain},
		{"no host", "GET / HTTP/1.1\r\n\r\n", notPlain},
		{"two hosts", "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", notPlain},
		{"odd host", "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", notPlain},
		{"absolute target", "GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", notPlain},
		{"bad target", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", notPlain},
		{"space in the target", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", notPlain},
		{"chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", notPlain},
		{"two lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", notPlain},
		{"signed length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\nx", notPlain},
		{"large", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\nx", notPlain},
		{"expects", "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", notPlain},
		{"upgrades", "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", notPlain},
		{"folded", "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", notPlain},
		{"space before the colon", "GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", notPlain},
		{"no colon", "GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n", notPlain},
		{"bare line feeds", "GET / HTTP/1.1\nHost: h\n\n", notPlain},
		{"line feed in a value", "GET / HTTP/1.1\r\nHost: h\r\nA: b\nC: d\r\n\r\n", notPlain},
		{"control character", "GET / HTTP/1.1\r\nHost: h\r\nA: \x00\r\n\r\n", notPlain},
		{"many lines", "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("A: b\r\n", maxPlainLines) + "\r\n", notPlain},
		{"long head", "GET / HTTP/1.1\r\nHost: h\r\nA: " + strings.Repeat("b", maxPlainHead) + "\r\n\r\n", notPlain},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkParse(t, []byte(test.wire), test.want)
		})
	}
}

// checkParse wants a verdict, or any if that is -1, and that a request that is
// accepted is what net/http reads.
func checkParse(t *testing.T, wire []byte, want verdict) {
	t.Helper()
	h, got := parse(wire)
	if want >= 0 && got != want {
		t.Fatalf("verdict %d, want %d", got, want)
	}
	if got == notPlain {
		return
	}
	std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
	if err != nil {
		t.Fatalf("net/http refuses it: %v", err)
	}
	type view struct {
		Method, URL, Proto, Host, URI string
		Header                        http.Header
		Length                        int64
		Close                         bool
	}
	of := func(r *http.Request) view {
		return view{r.Method, r.URL.String(), r.Proto, r.Host, r.RequestURI, r.Header, r.ContentLength, r.Close}
	}
	if diff := cmp.Diff(of(std), of(h.request)); diff != "" {
		t.Errorf("(-net/http +own)\n%s", diff)
	}
	if end := bytes.Index(wire, []byte("\r\n\r\n")) + 4; h.bytes != end || int64(h.body) != std.ContentLength {
		t.Errorf("head of %d bytes, body of %d", h.bytes, h.body)
	}
}

func FuzzParse(f *testing.F) {
	for _, wire := range []string{
		"POST /invoke/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nx-a: 1\r\nX-A: 2\r\n\r\nabc",
		"GET /?a=b;c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"DELETE //x/%41 HTTP/1.1\r\nhost: H:1\r\ncookie:\r\n\r\n",
		"PUT /* HTTP/1.1\r\nHost: _\r\ncontent-length: 00\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nPragma: no-cache\r\n\r\n",
	} {
		f.Add([]byte(wire))
	}
	f.Fuzz(func(t *testing.T, wire []byte) { checkParse(t, wire, -1) })
}
