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

// decodeFast is decodeCall for a call as it usually is; nil if it is not.
func (d *definitions) decodeFast(text string) *invoke.Call {
	if !utf8.ValidString(text) {
		return nil
	}
	var parts [16]string // of definitionMembers
	var m callPart
	ok := eachMember(text, func(name, raw string) bool {
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
		if i := slices.Index(definitionMembers, name); i >= 0 {
			if parts[i] != "" {
				return false // json would merge both
			}
			parts[i] = raw
		} else if strings.ContainsAny(name, upper) {
			return false // json would find it by another case
		}
		return true
	})
	if !ok {
		return nil
	}
	buffer := texts.Get().(*[]byte)
	defer texts.Put(buffer)
	key := append((*buffer)[:0], '{')
	for i, name := range definitionMembers {
		if parts[i] == "" {
			continue
		}
		if len(key) > 1 {
			key = append(key, ',')
		}
		key = append(append(append(append(key, '"'), name...), `":`...), parts[i]...)
	}
	key = append(key, '}')
	*buffer = key
	known, ok := d.known(key)
	if !ok {
		var fresh definitionPart
		if json.Unmarshal(key, &fresh) != nil || fresh.check() != nil {
			return nil
		}
		// The object is the same for all texts of the definition.
		known = d.remember(string(key), d.of(&fresh))
	}
	call, err := m.call(known)
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
	return eachMember(raw, func(name, list string) bool {
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
func eachMember(object string, visit func(name, raw string) bool) bool {
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
			return skipBlanks(rest[1:]) == ""
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
			return false
		}
		switch rest[0] {
		case '}':
			return skipBlanks(rest[1:]) == ""
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
			for i++; ; i++ {
				if i >= len(text) {
					return -1
				}
				if text[i] == '\\' {
					i++
				} else if text[i] == '"' {
					break
				}
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
