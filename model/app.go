package model

import (
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// App groups functions and triggers and gives them common configuration.
type App struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	Config      Config      `json:"config,omitempty"`
	Annotations Annotations `json:"annotations,omitempty"`
	SyslogURL   *string     `json:"syslog_url,omitempty"`
	Shape       string      `json:"shape,omitempty"`
	CreatedAt   Timestamp   `json:"created_at"`
	UpdatedAt   Timestamp   `json:"updated_at"`
}

// AppFilter selects and pages apps; see [PageRequest].
type AppFilter struct {
	Name string // exact; empty selects all
	Page PageRequest
}

var (
	appShapes     = []string{"", "GENERIC_X86", "GENERIC_ARM", "GENERIC_X86_ARM"}
	syslogSchemes = []string{"udp", "tcp", "unix", "unixgram", "tcp+tls"}
)

// NormalizeNew prepares a client's app for creation: reserved annotations and
// an empty syslog URL are dropped, timestamps are ignored.
func (a *App) NormalizeNew() {
	a.Annotations = a.Annotations.WithoutReserved()
	if a.SyslogURL != nil && *a.SyslogURL == "" {
		a.SyslogURL = nil
	}
	a.CreatedAt, a.UpdatedAt = Timestamp{}, Timestamp{}
}

// ValidateNew checks an app that a client wants to create.
func (a *App) ValidateNew() error {
	if a.ID != "" {
		return ErrAppIDProvided
	}
	return a.Validate()
}

// Validate checks everything but the identifier.
func (a *App) Validate() error {
	switch {
	case a.Name == "":
		return ErrAppMissingName
	case len(a.Name) > MaxNameBytes:
		return ErrAppNameTooLong
	case !isWordName(a.Name):
		return ErrAppInvalidName
	}
	if err := a.Annotations.Validate(); err != nil {
		return err
	}
	if err := a.Config.Validate(); err != nil {
		return err
	}
	if a.SyslogURL != nil {
		if err := validateSyslogURL(*a.SyslogURL); err != nil {
			return err
		}
	}
	if !slices.Contains(appShapes, a.Shape) {
		return ErrAppInvalidShape
	}
	return nil
}

// isWordName accepts Unicode letters and numbers, '_' and '-'.
func isWordName(name string) bool {
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '_' && r != '-' {
			return false
		}
	}
	return true
}

func validateSyslogURL(raw string) error {
	trimmed := strings.TrimSpace(raw)
	if trimmed == "" {
		return nil
	}
	u, err := url.Parse(trimmed)
	if err != nil {
		return Errorf(ErrAppInvalidSyslogURL, "invalid syslog url: %q %v", raw, err)
	}
	if !slices.Contains(syslogSchemes, u.Scheme) {
		return Errorf(ErrAppInvalidSyslogURL,
			"invalid syslog url: %q invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported", raw)
	}
	return nil
}

// Merge returns the app changed by patch, validated. Absent and zero fields
// leave the app's value, an empty syslog URL clears it, the shape cannot change.
// UpdatedAt is set to now, or just after what it was, only if something did
// change.
func (a *App) Merge(patch *App, now Timestamp) (*App, error) {
	if patch.ID != "" && patch.ID != a.ID {
		return nil, ErrAppIDMismatch
	}
	if patch.Name != "" && patch.Name != a.Name {
		return nil, ErrAppNameImmutable
	}
	merged := *a
	merged.Config = a.Config.Merge(patch.Config)
	merged.Annotations = a.Annotations.Merge(patch.Annotations.WithoutReserved())
	if patch.SyslogURL != nil {
		merged.SyslogURL = patch.SyslogURL
		if *patch.SyslogURL == "" {
			merged.SyslogURL = nil
		}
	}
	if err := merged.Validate(); err != nil {
		return nil, err
	}
	if !merged.equal(a) {
		merged.UpdatedAt = now.after(a.UpdatedAt)
	}
	return &merged, nil
}

func (a *App) equal(b *App) bool {
	return a.Config.Equal(b.Config) && a.Annotations.Equal(b.Annotations) && equalText(a.SyslogURL, b.SyslogURL)
}

func equalText(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
