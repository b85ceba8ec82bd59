package main

import (
	"fmt"
	"io"
	"os"
)

// progress shows what is being done in one line of a terminal, and nothing
// elsewhere. It is for one goroutine.
type progress struct {
	out io.Writer // nil: no terminal
	row string
}

func newProgress(out io.Writer) *progress {
	if file, ok := out.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return &progress{out: out}
		}
	}
	return &progress{}
}

// eraseLine is the terminal's sequence for that.
const eraseLine = "\r\x1b[K"

func (p *progress) show(format string, args ...any) {
	if p.out == nil {
		return
	}
	fmt.Fprint(p.out, eraseLine)
	if p.row != "" {
		fmt.Fprint(p.out, p.row, ": ")
	}
	fmt.Fprintf(p.out, format, args...)
}

func (p *progress) clear() {
	if p.out != nil {
		fmt.Fprint(p.out, eraseLine)
	}
}
