package placement

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// maxListBytes is the size of a list of places at most.
const maxListBytes = 1 << 20

// errEmptyList is the error of a list that is probably being written.
var errEmptyList = errors.New("it has no address; a file with [] means that there is no runner")

// ParseList reads a list of places: one on each line, where what follows a # is a
// comment, or a JSON array of strings. A list that has no place is refused, except
// an empty array.
func ParseList(data []byte) ([]Place, error) {
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '[' {
		var texts []string
		if err := json.Unmarshal(trimmed, &texts); err != nil {
			return nil, fmt.Errorf("it is no JSON array of strings: %w", err)
		}
		return ParsePlaces(texts)
	}
	var texts []string
	for line := range strings.Lines(string(data)) {
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text != "" {
			texts = append(texts, text)
		}
	}
	if len(texts) == 0 {
		return nil, errEmptyList
	}
	return ParsePlaces(texts)
}

// listFile is a file with a list of places that may change. It is read again and
// again rather than watched, as that finds every change on every file system, and
// through links; the file is small.
//
// A file that was replaced is complete. One that was written in place may not be,
// so it counts when two looks in a row find the same. One that makes no sense
// leaves things as they were.
type listFile struct {
	path string
	log  *slog.Logger

	info    os.FileInfo // of the file whose content was taken
	gone    bool        // it is not there
	taken   []byte      // the latest content that was taken, or refused
	pending []byte      // what the latest look found, if that was neither
	trouble string      // that the log has
}

// look reports the places in the file, if they changed.
func (f *listFile) look() (places []Place, changed bool) {
	data, info, err := f.read()
	if err != nil {
		f.gone = errors.Is(err, os.ErrNotExist)
		f.complain(err)
		return nil, false
	}
	if f.info != nil && bytes.Equal(data, f.taken) {
		f.pending = nil
		return nil, false
	}
	replaced := f.info == nil || f.gone || !os.SameFile(f.info, info)
	f.gone = false
	if !(replaced && isWhole(data)) && !(f.pending != nil && bytes.Equal(data, f.pending)) {
		f.pending = data
		if f.pending == nil {
			f.pending = []byte{}
		}
		return nil, false
	}
	f.info, f.taken, f.pending = info, data, nil
	places, err = ParseList(data)
	if err != nil {
		f.complain(err)
		return nil, false
	}
	if f.trouble != "" {
		f.log.Info("the list of runners can be read again", slog.String("file", f.path))
		f.trouble = ""
	}
	return places, true
}

// isWhole reports whether a list ends as one does that was completely written.
func isWhole(data []byte) bool {
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) > 0 && trimmed[0] == '[' {
		return json.Valid(trimmed)
	}
	return len(trimmed) > 0 && bytes.HasSuffix(data, []byte("\n"))
}

func (f *listFile) read() ([]byte, os.FileInfo, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxListBytes+1))
	if err == nil && len(data) > maxListBytes {
		err = fmt.Errorf("it is larger than %d bytes", maxListBytes)
	}
	return data, info, err
}

// complain tells the log of a trouble once.
func (f *listFile) complain(err error) {
	if text := err.Error(); text != f.trouble {
		f.trouble = text
		f.log.Warn("the list of runners is ignored, those that were known stay", slog.String("file", f.path), slog.Any("error", err))
	}
}
