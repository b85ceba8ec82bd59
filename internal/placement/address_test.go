package placement

import (
	"slices"
	"strings"
	"testing"
)

func TestPlaces(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1:9190":         "192.0.2.1:9190",
		"[2001:db8::1]:9190":     "[2001:db8::1]:9190",
		"[::ffff:192.0.2.1]:1":   "192.0.2.1:1",
		"runner:9190":            "runner:9190",
		"runners.example.:9190":  "runners.example.:9190",
		"my_runner-1.example:1":  "my_runner-1.example:1",
		"_fn._tcp.example.com":   "_fn._tcp.example.com",
		"_grpc._tcp.r.svc.local": "_grpc._tcp.r.svc.local",

		"": "", "runner": "", ":9190": "", "runner:": "", "runner:0": "", "runner:65536": "", "runner:http": "", "runner:-1": "",
		"http://runner:9190": "", "2001:db8::1:9190": "", "[2001:db8::1]": "", "192.0.2:9190": "", "192.0.2.1.9:9190": "", "256.1.1.1:9190": "",
		"-runner:1": "", "a..b:1": "", "run ner:1": "", "runner/x:1": "", "_fn": "", "_fn._tcp": "", "_fn.example.com": "", "_fn._tcp..com": "",
		strings.Repeat("a", 64) + ":1": "", strings.Repeat("a.", 127) + "a:1": "",
	} {
		place, err := ParsePlace(text)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is accepted as %s", text, place)
		case want != "" && (err != nil || place.String() != want):
			t.Errorf("%q: got %s, %v", text, place, err)
		}
	}
}

func TestLists(t *testing.T) {
	for _, tt := range []struct {
		data string
		want []string // nil: refused
	}{
		{"a:1\nb:2\n", []string{"a:1", "b:2"}},
		{"# runners\n\n  a:1  # the first\r\nb:2", []string{"a:1", "b:2"}},
		{"a:1\na:1\n", []string{"a:1"}},
		{`["a:1", "192.0.2.1:2"]`, []string{"a:1", "192.0.2.1:2"}},
		{" []\n", []string{}},
		{"", nil},
		{"# nothing\n", nil},
		{`["a:1"`, nil},
		{`["a:1"] x`, nil},
		{`[1]`, nil},
		{`{"a":1}`, nil},
		{"a:1\nb\n", nil},
	} {
		places, err := ParseList([]byte(tt.data))
		got := make([]string, len(places))
		for i, p := range places {
			got[i] = p.String()
		}
		if (err != nil) != (tt.want == nil) || err == nil && !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %v, %v", tt.data, got, err)
		}
	}
}

// A place that was accepted is the same when it is read again.
func FuzzParsePlace(f *testing.F) {
	for _, text := range []string{"192.0.2.1:9190", "[2001:db8::1]:9190", "[fe80::1%eth0]:1", "runner:9190", "_fn._tcp.example.com", "a:00001"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		place, err := ParsePlace(text)
		if err != nil {
			return
		}
		again, err := ParsePlace(place.String())
		if err != nil || again != place {
			t.Errorf("%q is %s, and that is %s, %v", text, place, again, err)
		}
		if place.isService() == (place.Port != 0) {
			t.Errorf("%q: %+v", text, place)
		}
	})
}

func FuzzParseList(f *testing.F) {
	for _, data := range []string{"a:1\nb:2\n", `["a:1"]`, "[]", "# x\na:1", "\x00", "[\"_fn._tcp.example.com\"]"} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		places, err := ParseList(data)
		if err != nil {
			return
		}
		var lines strings.Builder
		for _, p := range places {
			lines.WriteString(p.String() + "\n")
		}
		if len(places) == 0 {
			lines.WriteString("[]")
		}
		if again, err := ParseList([]byte(lines.String())); err != nil || !slices.Equal(again, places) {
			t.Errorf("%q is %v, and that is %v, %v", data, places, again, err)
		}
	})
}
