package runner

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestEndOfAChunkedBodyIsFound(t *testing.T) {
	for _, test := range []struct {
		chunks string
		want   bool
	}{
		{"", false},
		{"0\r\n\r\n", true},
		{"0\r\n\r", false},
		{"0\r\nTrailer: x\r\n\r\n", false}, // legal, and not worth the trouble
		{"5\r\nhello\r\n0\r\n\r\n", true},
		{"5\r\nhello\r\n", false},
		{"5\r\nhel", false},
		{"A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\nmore", true},
		{"5\r\n0\r\n\r\n\r\n", false}, // the data looks like an end
		{"zz\r\n", false},
		{"-1\r\n\r\n", false},
		{"ffffffffffffffff\r\nx", false},
		{"5;extension\r\nhello\r\n0\r\n\r\n", false},
	} {
		if got := endsWithin([]byte(test.chunks)); got != test.want {
			t.Errorf("%q: %v", test.chunks, got)
		}
	}
}

// FuzzEndOfAChunkedBody compares with what the standard library reads.
func FuzzEndOfAChunkedBody(f *testing.F) {
	for _, chunks := range []string{"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "1\r\n0\r\n\r\n", "3\r\nabc", "0x1\r\na\r\n0\r\n\r\n"} {
		f.Add(chunks)
	}
	f.Fuzz(func(t *testing.T, chunks string) {
		if !endsWithin([]byte(chunks)) {
			return
		}
		wire := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
		source := strings.NewReader(wire)
		answer, err := http.ReadResponse(bufio.NewReader(io.MultiReader(source, blocked{t})), request)
		if err != nil {
			t.Fatal(err)
		}
		// It may be malformed, but reading it must not go beyond what is there.
		_, _ = io.Copy(io.Discard, answer.Body)
	})
}

// blocked stands for a connection on which nothing more comes.
type blocked struct{ t *testing.T }

func (b blocked) Read([]byte) (int, error) {
	b.t.Error("the end was not where it was found")
	return 0, io.EOF
}
