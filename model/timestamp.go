package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// timestampLayout is RFC 3339 with exactly three fractional digits.
const timestampLayout = "2006-01-02T15:04:05.000Z07:00"

// Timestamp is a point in time as the API writes it. The zero value means "not
// given" on input and prints as 0001-01-01T00:00:00.000Z.
type Timestamp struct{ time.Time }

// Now returns the present time in UTC, cut to the milliseconds that are stored.
func Now() Timestamp { return Timestamp{time.Now().UTC().Truncate(time.Millisecond)} }

// after returns t, or the next millisecond after earlier if t is not later:
// two changes never have one timestamp.
func (t Timestamp) after(earlier Timestamp) Timestamp {
	if t.Time.After(earlier.Time) {
		return t
	}
	return Timestamp{earlier.Add(time.Millisecond)}
}

// ParseTimestamp reads RFC 3339 with any number of fractional digits. Empty
// text is the Unix epoch, as generated Go clients expect.
func ParseTimestamp(s string) (Timestamp, error) {
	if s == "" {
		return Timestamp{time.Unix(0, 0).UTC()}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return Timestamp{}, fmt.Errorf("timestamp %q is not RFC 3339: %w", s, err)
	}
	return Timestamp{t}, nil
}

// String returns the API's form of the time.
func (t Timestamp) String() string { return t.Format(timestampLayout) }

// MarshalJSON writes the API's form of the time.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.String() + `"`), nil
}

// UnmarshalJSON reads what [ParseTimestamp] reads; null leaves t unchanged.
func (t *Timestamp) UnmarshalJSON(raw []byte) error {
	if bytes.Equal(raw, []byte("null")) {
		return nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	parsed, err := ParseTimestamp(s)
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}
