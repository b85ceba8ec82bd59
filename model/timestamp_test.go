package model

import (
	"encoding/json"
	"testing"
	"time"
)

func TestTimestampsHaveThreeDigits(t *testing.T) {
	for in, want := range map[string]string{
		"2019-10-13T14:54:45Z":                "2019-10-13T14:54:45.000Z",
		"2019-10-13T14:54:45.4Z":              "2019-10-13T14:54:45.400Z",
		"2019-10-13T14:54:45.459Z":            "2019-10-13T14:54:45.459Z",
		"2019-10-13T14:54:45.459999Z":         "2019-10-13T14:54:45.459Z",
		"2019-10-13T14:54:45.459999999+02:00": "2019-10-13T14:54:45.459+02:00",
		"0001-01-01T00:00:00.000Z":            "0001-01-01T00:00:00.000Z",
		"":                                    "1970-01-01T00:00:00.000Z",
	} {
		parsed, err := ParseTimestamp(in)
		if err != nil || parsed.String() != want {
			t.Errorf("%s: got %s, %v; want %s", in, parsed, err, want)
		}
	}
	if got := (Timestamp{}).String(); got != "0001-01-01T00:00:00.000Z" {
		t.Errorf("zero is %s", got)
	}
}

func TestWrongTimestamps(t *testing.T) {
	for _, in := range []string{"yesterday", "2019-10-13", "2019-10-13 14:54:45Z", "2019-13-13T14:54:45Z", "1570978485", "2019-10-13T14:54:45"} {
		if got, err := ParseTimestamp(in); err == nil {
			t.Errorf("%s: got %s", in, got)
		}
	}
}

func TestTimestampJSON(t *testing.T) {
	type document struct {
		At Timestamp `json:"at"`
	}
	for in, want := range map[string]string{
		`{}`:                                    `{"at":"0001-01-01T00:00:00.000Z"}`,
		`{"at":null}`:                           `{"at":"0001-01-01T00:00:00.000Z"}`,
		`{"at":"0001-01-01T00:00:00.000Z"}`:     `{"at":"0001-01-01T00:00:00.000Z"}`,
		`{"at":""}`:                             `{"at":"1970-01-01T00:00:00.000Z"}`,
		`{"at":"2019-10-13T14:54:45.45-01:00"}`: `{"at":"2019-10-13T14:54:45.450-01:00"}`,
	} {
		var d document
		if err := json.Unmarshal([]byte(in), &d); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if out, err := json.Marshal(d); err != nil || string(out) != want {
			t.Errorf("%s: got %s, %v; want %s", in, out, err, want)
		}
	}
	for _, in := range []string{`{"at":5}`, `{"at":"x"}`, `{"at":{}}`, `{"at":true}`} {
		var d document
		if err := json.Unmarshal([]byte(in), &d); err == nil {
			t.Errorf("%s: got %s", in, d.At)
		}
	}
	var d document
	if err := json.Unmarshal([]byte(`{"at":"0001-01-01T00:00:00.000Z"}`), &d); err != nil || !d.At.IsZero() {
		t.Errorf("the zero time of generated clients is given: %v, %v", d.At, err)
	}
}

func TestNowIsUTCInMilliseconds(t *testing.T) {
	now := Now()
	if now.Location() != time.UTC || now.Nanosecond()%int(time.Millisecond) != 0 {
		t.Errorf("got %v", now.Time)
	}
	if parsed, err := ParseTimestamp(now.String()); err != nil || !parsed.Equal(now.Time) {
		t.Errorf("%v comes back as %v, %v", now, parsed, err)
	}
}

func TestAfterIsAlwaysLater(t *testing.T) {
	base := Now()
	later := Timestamp{base.Add(time.Hour)}
	if got := later.after(base); got != later {
		t.Errorf("got %v, want %v", got, later)
	}
	for _, now := range []Timestamp{base, {base.Add(-time.Hour)}} {
		if got := now.after(base); !got.Equal(base.Add(time.Millisecond)) {
			t.Errorf("got %v", got)
		}
	}
}

func FuzzParseTimestamp(f *testing.F) {
	for _, seed := range []string{"", "2019-10-13T14:54:45.459Z", "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:60+24:00", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		parsed, err := ParseTimestamp(in)
		if err != nil {
			return
		}
		again, err := ParseTimestamp(parsed.String())
		if err != nil {
			t.Fatalf("%q prints as %s: %v", in, parsed, err)
		}
		if again.String() != parsed.String() || !again.Equal(parsed.Truncate(time.Millisecond)) {
			t.Errorf("%q: %v comes back as %v", in, parsed, again)
		}
	})
}
