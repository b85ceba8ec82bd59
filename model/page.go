package model

import (
	"encoding/base64"
	"strings"
)

// Page sizes of the list calls.
const (
	DefaultPerPage = 30
	MaxPerPage     = 100
)

// PageRequest says which part of a list is wanted.
type PageRequest struct {
	Cursor  string // next_cursor of the page before; empty for the first
	PerPage int    // at most this many items; 0 or less means all, without a cursor
}

// Page is one part of a list. Items is never nil; NextCursor is empty on the
// last page.
type Page[T any] struct {
	NextCursor string `json:"next_cursor,omitempty"`
	Items      []T    `json:"items"`
}

// Position is where a page ended. Lists are ordered by name, then by ID.
type Position struct {
	Name string
	ID   string // set only when the next item has the same name
}

// Cursor returns the text that clients send back. It is the name alone
// wherever that is enough, which is the form Fn clients and tests know; names
// cannot hold a NUL, so it separates an ID that is needed to break a tie.
func (p Position) Cursor() string {
	plain := p.Name
	if p.ID != "" {
		plain += "\x00" + p.ID
	}
	return base64.RawURLEncoding.EncodeToString([]byte(plain))
}

// ParseCursor reverses [Position.Cursor]. It returns [ErrInvalidCursor] for
// text that no server has sent.
func ParseCursor(cursor string) (Position, error) {
	plain, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return Position{}, ErrInvalidCursor
	}
	name, id, _ := strings.Cut(string(plain), "\x00")
	return Position{Name: name, ID: id}, nil
}
