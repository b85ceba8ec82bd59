package runner

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/internal/syslog"
)

// newConsole returns a console that logs to the buffer.
func newConsole(log *lockedLog, maxBytes int64) *console {
	c := &console{
		maxBytes: maxBytes, left: maxBytes,
		log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	c.stdout = lineWriter{console: c, severity: syslog.Info}
	c.stderr = lineWriter{console: c, severity: syslog.Error}
	return c
}

// logged are the messages in the log.
func logged(log *lockedLog) []string {
	var messages []string
	for line := range strings.Lines(log.String()) {
		_, rest, _ := strings.Cut(line, "msg=")
		message, call, _ := strings.Cut(strings.TrimSpace(rest), " call_id=")
		messages = append(messages, strings.Trim(message, `"`)+"|"+strings.Trim(call, `"`))
	}
	return messages
}

func TestLinesAreLoggedWithTheirCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedLog
		c := newConsole(&log, DefaultMaxLogBytes)
		fmt.Fprint(c.Stdout(), "starting\n\nto")
		c.begin("ONE")
		fmt.Fprint(c.Stderr(), "an error\r\n")
		fmt.Fprint(c.Stdout(), "gether\n")
		c.end()
		time.Sleep(outputPatience)
		fmt.Fprint(c.Stdout(), "on its way when the answer was there\n")
		time.Sleep(time.Nanosecond)
		fmt.Fprint(c.Stdout(), "between\n")
		c.begin("TWO")
		c.end()
		c.begin("THREE")
		time.Sleep(time.Minute)
		fmt.Fprint(c.Stdout(), "late")
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		want := []string{"starting|", "an error|ONE", "together|ONE", "on its way when the answer was there|ONE", "between|", "late|THREE"}
		if got := logged(&log); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestOutputOfACallIsLimited(t *testing.T) {
	var log lockedLog
	c := newConsole(&log, 10)
	c.begin("ONE")
	fmt.Fprint(c.Stdout(), "12345678\n0\n1\n2\n")
	c.begin("TWO")
	fmt.Fprint(c.Stdout(), "fresh\n")
	want := []string{
		"12345678|ONE", "-----max log size 10 bytes exceeded, truncating log-----|ONE", "fresh|TWO",
	}
	if got := logged(&log); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for turn, want := range map[int][]string{1: {"12345678", "0", "1", "2"}, 2: {"fresh"}} {
		if got := c.last(turn); !slices.Equal(got, want) {
			t.Errorf("kept %q of call %d, want %q", got, turn, want)
		}
	}
}

func TestOutputThatIsNotLoggedIsNotKept(t *testing.T) {
	c := &console{maxBytes: DefaultMaxLogBytes, left: DefaultMaxLogBytes}
	c.stderr = lineWriter{console: c, severity: syslog.Error}
	turn := c.begin("ONE")
	fmt.Fprint(c.Stderr(), "secret\n")
	if kept := c.last(turn); len(kept) != 0 {
		t.Errorf("kept %q", kept)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	var log lockedLog
	c := newConsole(&log, DefaultMaxLogBytes)
	long := strings.Repeat("x", 2*maxLine+1)
	fmt.Fprint(c.Stdout(), long[:maxLine+1])
	fmt.Fprint(c.Stdout(), long[maxLine+1:]+"\nshort\n")
	var lengths []int
	for _, message := range logged(&log) {
		lengths = append(lengths, len(message)-1)
	}
	if want := []int{maxLine, maxLine, 1, 5}; !slices.Equal(lengths, want) {
		t.Errorf("lines of %v bytes, want %v", lengths, want)
	}
}

func TestLastLinesAreBounded(t *testing.T) {
	var log lockedLog
	c := newConsole(&log, DefaultMaxLogBytes)
	turn := c.begin("ONE")
	for i := range 1000 {
		fmt.Fprintf(c.Stdout(), "line %d\n", i)
	}
	if got := c.last(turn); len(got) != maxTailLines || got[maxTailLines-1] != "line 999" {
		t.Errorf("%d lines: %q", len(got), got)
	}
	fmt.Fprintln(c.Stdout(), strings.Repeat("y", maxTailBytes))
	if got := c.last(turn); len(got) != 1 || c.bytes != maxTailBytes {
		t.Errorf("%d lines, %d bytes", len(got), c.bytes)
	}
	if got := c.last(turn + 1); len(got) != 0 {
		t.Errorf("of the next call: %q", got)
	}
}
