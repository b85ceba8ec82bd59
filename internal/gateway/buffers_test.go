package gateway

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/invoke"
)

// halting gives others a chance to run in the middle of each piece.
type halting struct{ io.Reader }

func (h halting) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p[:min(len(p), 1000)])
	runtime.Gosched()
	return n, err
}

func (halting) Close() error { return nil }

func TestAnswersAtTheSameTimeDoNotMix(t *testing.T) {
	const size = 200_000
	for _, length := range []int64{size, -1} {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for round := range 5 {
					want := bytes.Repeat([]byte{byte('a' + 8*(round%3) + i)}, size)
					w := httptest.NewRecorder()
					response := &invoke.Response{Header: http.Header{}, Body: halting{bytes.NewReader(want)}, ContentLength: length}
					if err := send(w, http.StatusOK, response); err != nil {
						t.Error(err)
					}
					if !bytes.Equal(w.Body.Bytes(), want) {
						t.Error("an answer has something of another one")
					}
				}
			})
		}
		wg.Wait()
	}
}

// finalWriter notices that it is used when the handler has returned.
type finalWriter struct {
	*httptest.ResponseRecorder
	t    *testing.T
	mu   sync.Mutex // guards over
	over bool
}

func (w *finalWriter) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		w.t.Error("flushed when the response was over")
	}
	return nil
}

func TestNothingIsFlushedWhenTheResponseIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &finalWriter{ResponseRecorder: httptest.NewRecorder(), t: t}
		// Two pieces at least, so that one of them waits to be flushed.
		body := halting{bytes.NewReader(make([]byte, 5000))}
		if err := send(w, http.StatusOK, &invoke.Response{Header: http.Header{}, Body: body, ContentLength: -1}); err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		w.over = true
		w.mu.Unlock()
		time.Sleep(2 * flushDelay)
	})
}
