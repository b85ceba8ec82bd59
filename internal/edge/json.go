package edge

import (
	"encoding/json"
	"net/http"
	"strconv"
)

const jsonContentType = "application/json; charset=utf-8"

// WriteJSON answers with v as compact JSON, with <, > and & escaped and no
// newline at the end. After an error from encoding nothing was sent.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return writeBody(w, status, body)
}

func encode(v any) ([]byte, error) { return json.Marshal(v) }

func writeBody(w http.ResponseWriter, status int, body []byte) error {
	header := w.Header()
	header.Set("Content-Type", jsonContentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}
