package syslog

import (
	"strconv"
	"strings"
	"time"
)

// Severity is how important a line is, RFC 5424 section 6.2.1.
type Severity int

// The severities of what programs print.
const (
	Error Severity = 3 // standard error
	Info  Severity = 6 // standard output
)

// facilityUser is for messages of programs, RFC 5424 section 6.2.1.
const facilityUser = 1

// Line is one line of a function's output.
type Line struct {
	Time       time.Time
	Severity   Severity
	AppID      string
	FnID       string
	InstanceID string
	CallID     string // "" between calls
	Text       string
}

// Longest fields, in bytes, RFC 5424 section 6.
const (
	maxAppName = 48
	maxProcID  = 128
	maxMsgID   = 32
)

// dataID names the structured data. The number is that for documentation,
// RFC 5612, as the data has no meaning beyond its names.
const dataID = "fn@32473"

// append writes the line as a message: the tag that Fn's users know, as far as
// it fits in its field, and all identifiers as structured data.
func (l Line) append(b []byte, host string) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(facilityUser<<3|int(l.Severity)), 10)
	b = append(b, ">1 "...)
	b = l.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	for _, field := range []struct {
		text string
		most int
	}{{host, 255}, {"app_id=" + l.AppID + ",fn_id=" + l.FnID, maxAppName}, {l.InstanceID, maxProcID}, {l.CallID, maxMsgID}} {
		b = append(b, ' ')
		b = appendField(b, field.text, field.most)
	}
	b = append(b, " ["+dataID...)
	for _, param := range [][2]string{{"app_id", l.AppID}, {"fn_id", l.FnID}, {"instance_id", l.InstanceID}, {"call_id", l.CallID}} {
		if param[1] != "" {
			b = append(append(append(b, ' '), param[0]...), `="`...)
			b = append(append(b, quoted.Replace(param[1])...), '"')
		}
	}
	b = append(b, "] "...)
	return append(b, l.Text...)
}

// quoted escapes what ends a value, RFC 5424 section 6.3.3.
var quoted = strings.NewReplacer(`"`, `\"`, `\`, `\\`, `]`, `\]`)

// appendField appends printable ASCII without blanks, "-" for nothing.
func appendField(b []byte, text string, most int) []byte {
	if text == "" {
		return append(b, '-')
	}
	for i := range min(len(text), most) {
		c := text[i]
		if c <= ' ' || c >= 0x7f {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}
