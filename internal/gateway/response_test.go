package gateway

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestContentTypeIsSniffedIfTheFunctionSetsNone(t *testing.T) {
	server, _ := serve(t, says(nil, "<html>"), edge.Options{})
	for _, path := range []string{"/invoke/f1", "/t/shop/pay"} {
		response, _ := do(t, newRequest(t, "POST", server.URL+path, "", nil))
		if got := response.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// streams answers with what the test writes to the pipe.
func streams(t *testing.T) (*function, *io.PipeWriter) {
	reader, writer := io.Pipe()
	t.Cleanup(func() { writer.Close() })
	return &function{answer: func(context.Context, *invoke.Call) (*invoke.Response, error) {
		return &invoke.Response{Header: http.Header{}, Body: reader, ContentLength: -1}, nil
	}}, writer
}

func TestStreamedAnswerArrivesPieceByPiece(t *testing.T) {
	f, writer := streams(t)
	server, _ := serve(t, f, edge.Options{})
	response, err := http.DefaultTransport.RoundTrip(newRequest(t, "POST", server.URL+"/invoke/f1", "", nil))
	if err != nil {
		t.Fatal(err) // the header came before any byte of the body
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	for _, line := range []string{"one\n", "two\n", "three\n"} {
		if _, err := io.WriteString(writer, line); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); got != line || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	writer.Close()
	if rest, err := io.ReadAll(lines); len(rest) != 0 || err != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
}

func TestShortAnswerOfUnknownLengthGetsALength(t *testing.T) {
	f := &function{answer: func(context.Context, *invoke.Call) (*invoke.Response, error) {
		return &invoke.Response{Header: http.Header{}, Body: io.NopCloser(strings.NewReader("short")), ContentLength: -1}, nil
	}}
	server, _ := serve(t, f, edge.Options{})
	response, body := do(t, newRequest(t, "POST", server.URL+"/invoke/f1", "", nil))
	if response.ContentLength != 5 || body != "short" {
		t.Errorf("length %d, body %q", response.ContentLength, body)
	}
}

func TestAnswerThatBreaksLateCutsTheConnection(t *testing.T) {
	f, writer := streams(t)
	server, _ := serve(t, f, edge.Options{})
	response, err := http.DefaultTransport.RoundTrip(newRequest(t, "POST", server.URL+"/invoke/f1", "", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := writer.Write([]byte("part")); err != nil {
		t.Fatal(err)
	}
	writer.CloseWithError(model.ErrFunctionResponse)
	if got, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the client took %q for the whole", got)
	}
}

func TestAnswerThatBreaksBeforeItsFirstByteIsAnError(t *testing.T) {
	f, writer := streams(t)
	writer.CloseWithError(model.ErrFunctionResponse)
	server, _ := serve(t, f, edge.Options{})
	response, body := do(t, newRequest(t, "POST", server.URL+"/invoke/f1", "", nil))
	if response.StatusCode != 502 || !strings.Contains(body, "error receiving function response") {
		t.Errorf("got %d %q", response.StatusCode, body)
	}
}

// A function whose answer is given up counts as one whose client has left.
func TestAnswerToAStatusWithoutABodyIsReadToItsEnd(t *testing.T) {
	for _, status := range []int{http.StatusNoContent, http.StatusNotModified} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			reader, writer := io.Pipe()
			defer writer.Close()
			server, _ := serve(t, &function{answer: func(context.Context, *invoke.Call) (*invoke.Response, error) {
				return &invoke.Response{Header: http.Header{"Fn-Http-Status": {strconv.Itoa(status)}}, Body: reader, ContentLength: -1}, nil
			}}, edge.Options{})
			response, _ := do(t, newRequest(t, "GET", server.URL+"/t/shop/pay", "", nil))
			if response.StatusCode != status {
				t.Errorf("got %d", response.StatusCode)
			}
			if _, err := io.WriteString(writer, "for nobody"); err != nil {
				t.Errorf("the answer was given up: %v", err)
			}
		})
	}
}

func TestAnswerThatBreaksWhereNoneIsWantedLeavesTheConnectionAlone(t *testing.T) {
	w := httptest.NewRecorder()
	body := io.NopCloser(iotest.ErrReader(model.ErrFunctionResponse))
	if err := send(w, http.StatusNoContent, &invoke.Response{Body: body, ContentLength: -1}); err != nil || w.Code != http.StatusNoContent {
		t.Errorf("got %d, %v", w.Code, err)
	}
}
