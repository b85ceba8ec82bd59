package model

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestCursorsComeBack(t *testing.T) {
	for _, p := range []Position{
		{}, {Name: "app"}, {Name: "app", ID: "01H"}, {Name: "日本語", ID: "x"}, {Name: strings.Repeat("n", 1<<20)}, {ID: "01H"},
	} {
		got, err := ParseCursor(p.Cursor())
		if err != nil || got != p {
			t.Errorf("%+v comes back as %+v, %v", p, got, err)
		}
	}
}

func TestCursorIsTheNameInBase64(t *testing.T) {
	if got, want := (Position{Name: "myapp"}).Cursor(), "bXlhcHA"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := (Position{Name: "a", ID: "b"}).Cursor(), base64.RawURLEncoding.EncodeToString([]byte("a\x00b")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWrongCursors(t *testing.T) {
	for _, cursor := range []string{"a", "bXlhcHA=", "not base64", "+/+/", "日本"} {
		if got, err := ParseCursor(cursor); !errors.Is(err, ErrInvalidCursor) {
			t.Errorf("%s: got %+v, %v", cursor, got, err)
		}
	}
}

func TestPageJSON(t *testing.T) {
	for want, page := range map[string]Page[int]{
		`{"items":[]}`:                    {Items: []int{}},
		`{"next_cursor":"c","items":[1]}`: {NextCursor: "c", Items: []int{1}},
	} {
		if got, err := json.Marshal(page); err != nil || string(got) != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	for _, seed := range []string{"", "bXlhcHA", "YQBi", "AA", "=", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		p, err := ParseCursor(cursor)
		if err != nil {
			if !errors.Is(err, ErrInvalidCursor) {
				t.Errorf("got %v", err)
			}
			return
		}
		if strings.Contains(p.Name, "\x00") {
			t.Errorf("the name %q has the separator", p.Name)
		}
		if again, err := ParseCursor(p.Cursor()); err != nil || again != p {
			t.Errorf("%+v comes back as %+v, %v", p, again, err)
		}
	})
}
