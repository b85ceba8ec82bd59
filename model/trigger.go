package model

import (
	"strings"
	"unicode"
)

// TriggerTypeHTTP is the only trigger type: an HTTP path below /t/{app name}.
const TriggerTypeHTTP = "http"

// Trigger binds an event source of an app to one of its functions.
type Trigger struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	AppID       string      `json:"app_id"`
	FnID        string      `json:"fn_id"`
	Type        string      `json:"type"`
	Source      string      `json:"source"`
	Annotations Annotations `json:"annotations,omitempty"`
	CreatedAt   Timestamp   `json:"created_at"`
	UpdatedAt   Timestamp   `json:"updated_at"`
}

// TriggerFilter selects and pages the triggers of an app; see [PageRequest].
type TriggerFilter struct {
	AppID string // required
	FnID  string // exact; empty selects all
	Name  string // exact; empty selects all
	Page  PageRequest
}

// NormalizeNew drops reserved annotations.
func (t *Trigger) NormalizeNew() { t.Annotations = t.Annotations.WithoutReserved() }

// ValidateNew checks a trigger that a client wants to create.
func (t *Trigger) ValidateNew() error {
	switch {
	case t.ID != "":
		return ErrTriggerIDProvided
	case !t.CreatedAt.IsZero():
		return ErrTriggerCreatedAtProvided
	case !t.UpdatedAt.IsZero():
		return ErrTriggerUpdatedAtProvided
	}
	return t.Validate()
}

// Validate checks everything but identifier and timestamps.
func (t *Trigger) Validate() error {
	switch {
	case t.AppID == "":
		return ErrTriggerMissingAppID
	case t.Name == "":
		return ErrTriggerMissingName
	case len(t.Name) > MaxNameBytes:
		return ErrTriggerNameTooLong
	case !isWordName(t.Name):
		return ErrTriggerInvalidName
	case t.FnID == "":
		return ErrTriggerMissingFnID
	case t.Type != TriggerTypeHTTP:
		return ErrTriggerType
	case t.Source == "":
		return ErrTriggerMissingSource
	case !strings.HasPrefix(t.Source, "/"):
		return ErrTriggerSourcePrefix
	case len(t.Source) > MaxSourceBytes:
		return ErrTriggerSourceTooLong
	case strings.ContainsFunc(t.Source, unicode.IsControl):
		return Errorf(ErrInvalidText, "Invalid Trigger Source, it contains a control character")
	}
	return t.Annotations.Validate()
}

// Merge returns the trigger changed by patch, validated. Absent and zero fields
// leave the trigger's value; app and type cannot change. UpdatedAt is set to
// now only if something did change. Whether a new function exists and belongs
// to the app, and whether name and source are free, is for the store to check.
func (t *Trigger) Merge(patch *Trigger, now Timestamp) (*Trigger, error) {
	if patch.ID != "" && patch.ID != t.ID {
		return nil, ErrTriggerIDMismatch
	}
	merged := *t
	if patch.Name != "" {
		merged.Name = patch.Name
	}
	if patch.FnID != "" {
		merged.FnID = patch.FnID
	}
	if patch.Source != "" {
		merged.Source = patch.Source
	}
	merged.Annotations = t.Annotations.Merge(patch.Annotations.WithoutReserved())
	if err := merged.Validate(); err != nil {
		return nil, err
	}
	if !merged.equal(t) {
		merged.UpdatedAt = now.after(t.UpdatedAt)
	}
	return &merged, nil
}

func (t *Trigger) equal(u *Trigger) bool {
	return t.Name == u.Name && t.FnID == u.FnID && t.Source == u.Source && t.Annotations.Equal(u.Annotations)
}
