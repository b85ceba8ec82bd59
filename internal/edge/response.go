package edge

import "net/http"

// response notes whether the final status line may have left already, and
// whether the client stopped taking bytes.
type response struct {
	http.ResponseWriter
	status  int // 0: not written, or by the first Write
	started bool
	broken  bool
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	// Informational responses precede the final one, except for a switch of protocols.
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		if !w.started {
			w.status = status
		}
		w.started = true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	w.started = true
	n, err := w.ResponseWriter.Write(p)
	w.broken = w.broken || err != nil
	return n, err
}

// FlushError sends what is buffered, and with it the header.
func (w *response) FlushError() error {
	w.started = true
	err := http.NewResponseController(w.ResponseWriter).Flush()
	w.broken = w.broken || err != nil
	return err
}

// Flush serves handlers that ask for an http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }
