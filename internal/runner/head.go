package runner

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/tinefn/tine/model"
)

// maxInformational is how many 1xx answers may come in a row.
const maxInformational = 5

// errSilent says that not a single byte of the next answer came before an error, so
// that reading may begin again on the same connection.
var errSilent = errors.New("no answer yet")

// request tells http.ReadResponse what the answer is to.
var request = &http.Request{Method: http.MethodPost}

// readHeader reads the status and header of the next answer, which may be an
// informational one, of at most limit bytes.
func (s *session) readHeader(limit int64) (*http.Response, error) {
	defer func() { s.in.limit = math.MaxInt64 }()
	s.in.limit = limit
	if _, err := s.reader.Peek(1); err != nil {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	answer, err := http.ReadResponse(s.reader, request)
	if err != nil && s.in.limit <= 0 {
		return nil, model.ErrFunctionHeaderTooBig
	}
	return answer, err
}

// readFinalHeader reads the header of the answer that follows informational ones.
func (s *session) readFinalHeader(limit int64) (*http.Response, error) {
	for range maxInformational {
		answer, err := s.readHeader(limit)
		if err != nil || !isInformational(answer) {
			return answer, err
		}
	}
	return nil, errors.New("too many informational answers")
}

func isInformational(answer *http.Response) bool { return answer.StatusCode < http.StatusOK }

// hasWholeBody reports whether an answer has arrived to its end already, so
// that reading it does not wait, and nothing is gained by passing it on in
// pieces.
func (s *session) hasWholeBody(answer *http.Response) bool {
	if answer.ContentLength >= 0 {
		return int64(s.reader.Buffered()) >= answer.ContentLength
	}
	if !slices.Equal(answer.TransferEncoding, []string{"chunked"}) {
		return false
	}
	arrived, err := s.reader.Peek(s.reader.Buffered())
	return err == nil && endsWithin(arrived)
}

// endsWithin reports whether a chunked body (RFC 9112, section 7.1) ends within
// the bytes, without a trailer. What it does not understand does not end.
func endsWithin(chunks []byte) bool {
	for {
		line, rest, found := bytes.Cut(chunks, []byte("\r\n"))
		size, err := strconv.ParseUint(string(line), 16, 31)
		switch {
		case !found || err != nil:
			return false
		case size == 0:
			return bytes.HasPrefix(rest, []byte("\r\n"))
		case uint64(len(rest)) < size+2:
			return false
		}
		chunks = rest[size+2:]
	}
}
