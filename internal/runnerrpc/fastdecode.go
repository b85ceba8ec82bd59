package runnerrpc

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tinefn/tine/invoke"
)

// Most calls are of a function that was called before, by a load balancer that
// writes definitions in the same way each time. Reading those again would take a
// quarter of what the way of a call through the protocol takes. So the text is cut
// into its members, and what is the definition's is only compared. All that is not
// as usual is left to package json, which also has the last word about what is JSON;
// in members that nobody uses it is not asked.

// definitionMembers are those of a definition, in an order of our own.
var definitionMembers = []string{
	"fn_id", "image", "memory", "timeout", "idle_timeout", "config", "annotations", "syslog_url", "app_id", "app_name", "tine",
}

// texts are buffers for the texts by which definitions are found.
var texts = sync.Pool{New: func() any { return new([]byte) }}

// definitionStart is where the definition begins if it comes last, as Tine's load
// balancers write it. It cannot be in the middle of a string.
const definitionStart = `,"image":`

// decodeFast is decodeCall for a call as it usually is; nil if it is not.
func (d *definitions) decodeFast(text string) *invoke.Call {
	if !utf8.ValidString(text) {
		return nil
	}
	head, tail := text, ""
	if i := strings.Index(text, definitionStart); i >= 0 {
		head, tail = text[:i], text[i:]
		if known, ok := d.known(tail); ok {
			var parts definitionTexts
			m, ok := scanCall(head, true, &parts)
			if !ok || parts != (definitionTexts{}) {
				return nil
			}
			return m.callOrNil(known)
		}
	}
	var parts definitionTexts
	m, ok := scanCall(text, false, &parts)
	if !ok {
		return nil
	}
	buffer := texts.Get().(*[]byte)
	defer texts.Put(buffer)
	key := parts.appendTo((*buffer)[:0])
	*buffer = key
	known, ok := d.known(string(key))
	if !ok {
		var fresh definitionPart
		if json.Unmarshal(key, &fresh) != nil || fresh.check() != nil {
			return nil
		}
		// The object is the same for all texts of the definition.
		known = d.remember(string(key), d.of(&fresh))
	}
	// The tail may be looked for next time if there is all of the definition in it,
	// and nothing else.
	var inHead, inTail definitionTexts
	if _, ok := scanCall(head, true, &inHead); ok && tail != "" && inHead == (definitionTexts{}) && scanDefinition(tail, &inTail) && inTail == parts {
		d.remember(strings.Clone(tail), known)
	}
	return m.callOrNil(known)
}

// definitionTexts are the texts of definitionMembers.
type definitionTexts [11]string

// appendTo writes an object of the members that there are.
func (t *definitionTexts) appendTo(b []byte) []byte {
	b = append(b, '{')
	for i, name := range definitionMembers {
		if t[i] == "" {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(append(b, '"'), name...), `":`...), t[i]...)
	}
	return append(b, '}')
}

// set notes a member. It reports whether the name is one of a definition's, and
// whether all is as usual: json would merge a member that comes twice.
func (t *definitionTexts) set(name, raw string) (isOne, usual bool) {
	i := slices.Index(definitionMembers, name)
	if i < 0 {
		return false, true
	}
	usual = t[i] == ""
	t[i] = raw
	return true, usual
}

// scanCall reads what is the call's, and cuts out what is the definition's. An open
// text lacks its end, which comes with the definition.
func scanCall(text string, open bool, parts *definitionTexts) (m callPart, ok bool) {
	ok = eachMember(text, open, func(name, raw string) bool {
		switch name {
		case "id":
			return plainText(raw, &m.ID)
		case "type":
			return plainText(raw, &m.Type)
		case "trigger_id":
			return plainText(raw, &m.TriggerID)
		case "headers":
			return m.Headers == nil && plainHeaders(raw, &m.Headers)
		case "tmpfs_size", "cpus", "tine_call":
			return false
		}
		isOne, usual := parts.set(name, raw)
		return usual && (isOne || !strings.ContainsAny(name, upper)) // json would find it by another case
	})
	return m, ok
}

// scanDefinition cuts out what is the definition's of a text that begins with a
// comma. It reports whether there was nothing else.
func scanDefinition(tail string, parts *definitionTexts) bool {
	return eachMember("{"+tail[1:], false, func(name, raw string) bool {
		isOne, usual := parts.set(name, raw)
		return isOne && usual
	})
}

// callOrNil is call, with nil for what makes no sense.
func (m *callPart) callOrNil(of definition) *invoke.Call {
	call, err := m.call(of)
	if err != nil {
		return nil
	}
	return call
}

// upper are the letters by which a name may differ from one of ours.
const upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ\u017f\u212a"

// plainText reads a string without escapes.
func plainText(raw string, to *string) bool {
	if len(raw) < 2 || raw[0] != '"' || strings.IndexByte(raw, '\\') >= 0 {
		return false
	}
	*to = raw[1 : len(raw)-1]
	return isPrintable(*to)
}

// isPrintable reports whether no character must be escaped.
func isPrintable(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' {
			return false
		}
	}
	return true
}

// plainHeaders reads lists of strings without escapes, by their names.
func plainHeaders(raw string, to *map[string][]string) bool {
	headers := map[string][]string{}
	*to = headers
	return eachMember(raw, false, func(name, list string) bool {
		if list[0] != '[' {
			return false
		}
		var values []string
		rest := skipBlanks(list[1:])
		for rest != "" && rest[0] != ']' {
			end := valueEnd(rest)
			var value string
			if end < 0 || !plainText(rest[:end], &value) {
				return false
			}
			values = append(values, value)
			rest = skipBlanks(rest[end:])
			if strings.HasPrefix(rest, ",") {
				if rest = skipBlanks(rest[1:]); strings.HasPrefix(rest, "]") {
					return false
				}
			} else if !strings.HasPrefix(rest, "]") {
				return false
			}
		}
		headers[name] = values
		return rest == "]"
	})
}

// skipBlanks cuts off what may be between the parts of a JSON text. Source: RFC
// 8259, section 2.
func skipBlanks(text string) string {
	for i := range len(text) {
		if c := text[i]; c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return text[i:]
		}
	}
	return ""
}

// eachMember calls visit with the name and the text of each member of an object,
// until it returns false. It reports whether it has seen all of them, and nothing
// that is unusual. That a text has the end of a value does not mean that it is one.
// An open object ends behind a member, without a brace.
func eachMember(object string, open bool, visit func(name, raw string) bool) bool {
	rest := skipBlanks(object)
	if rest == "" || rest[0] != '{' {
		return false
	}
	rest = skipBlanks(rest[1:])
	for first := true; ; first = false {
		if rest == "" {
			return false
		}
		if rest[0] == '}' && first {
			return !open && skipBlanks(rest[1:]) == ""
		}
		var name string
		end := valueEnd(rest)
		if end < 0 || !plainText(rest[:end], &name) {
			return false
		}
		rest = skipBlanks(rest[end:])
		if rest == "" || rest[0] != ':' {
			return false
		}
		rest = skipBlanks(rest[1:])
		if end = valueEnd(rest); end <= 0 || !visit(name, rest[:end]) {
			return false
		}
		rest = skipBlanks(rest[end:])
		if rest == "" {
			return open
		}
		switch rest[0] {
		case '}':
			return !open && skipBlanks(rest[1:]) == ""
		case ',':
			rest = skipBlanks(rest[1:])
		default:
			return false
		}
	}
}

// valueEnd is where the value ends that a text begins with, -1 if it does not end.
func valueEnd(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			if i = stringEnd(text, i+1); i < 0 {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n', ':':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

// stringEnd is where the quote is that ends a string whose content begins at i, -1 if
// there is none.
func stringEnd(text string, i int) int {
	for {
		quote := strings.IndexByte(text[i:], '"')
		if quote < 0 {
			return -1
		}
		escape := strings.IndexByte(text[i:i+quote], '\\')
		if escape < 0 {
			return i + quote
		}
		if i += escape + 2; i > len(text) {
			return -1
		}
	}
}
