// Package nodelog keeps what nodes under test print.
package nodelog

import (
	"bytes"
	"strings"
	"sync"
)

// Buffer is written by a node's process while tests read it.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Tail is the end of it, as logs are long.
func (b *Buffer) Tail() string {
	const shown = 3000
	text := b.String()
	return text[max(0, len(text)-shown):]
}

// Faults are its lines that speak of some, and what follows those that Go writes itself.
func (b *Buffer) Faults() string {
	text := b.String()
	for _, word := range []string{"DATA RACE", "panic"} {
		if _, rest, found := strings.Cut(text, word); found {
			return word + rest[:min(len(rest), 6000)]
		}
	}
	var lines []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "level=ERROR") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
