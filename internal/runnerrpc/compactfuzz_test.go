package runnerrpc

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzCompactCall gives a runner what may come as a call on a direct connection. What is
// read and written again reads the same.
func FuzzCompactCall(f *testing.F) {
	for _, call := range calls() {
		f.Add(appendCall(nil, call, testNumber, "rid"))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		of := receiver(t, &definitions{}).definition
		call, id, err := readCall(content, of)
		if err != nil {
			if call != nil {
				t.Errorf("got %+v with %v", call, err)
			}
			return
		}
		again, sameID, err := readCall(appendCall(nil, call, testNumber, id), of)
		if err != nil || sameID != id {
			t.Fatalf("%q is not %q, %v", sameID, id, err)
		}
		if diff := cmp.Diff(call, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-first +again)\n%s", diff)
		}
	})
}

// FuzzCompactAnswer gives a load balancer what may come as the beginning and as the end of
// an answer.
func FuzzCompactAnswer(f *testing.F) {
	f.Add(appendStart(nil, 200, http.Header{"X-A": {"1", "2"}, "x-b": {""}}))
	f.Add(appendStart(nil, 202, nil))
	f.Add(appendEnding(nil, &testEnding))
	f.Add(appendEnding(nil, &ending{code: 503, text: "no room"}))
	f.Fuzz(func(t *testing.T, content []byte) {
		if header, err := readStart(content); err == nil {
			again, err := readStart(appendStart(nil, 200, header))
			if diff := cmp.Diff(header, again, cmpopts.EquateEmpty()); diff != "" || err != nil {
				t.Errorf("%v (-first +again)\n%s", err, diff)
			}
		}
		if e, err := readEnding(content); err == nil {
			again, err := readEnding(appendEnding(nil, &e))
			e.text = strings.ToValidUTF8(e.text, "\uFFFD") // nobody writes what is none
			if err != nil || again != e {
				t.Errorf("got %+v, %v, want %+v", again, err, e)
			}
		}
	})
}
