package model

import (
	"maps"
	"net/url"
	"strings"
	"unicode"
)

// Defaults and bounds of a function's resources. The upper bounds are
// inclusive; 0 in a request means the default.
const (
	DefaultFnMemoryMiB      = 128
	DefaultFnTimeoutSeconds = 30
	DefaultFnIdleSeconds    = 30
	MaxFnMemoryMiB          = 8192
	MaxFnTimeoutSeconds     = 300
	MaxFnIdleSeconds        = 3600
)

// Fn is a function: a container image and what its containers get.
type Fn struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	AppID       string      `json:"app_id"`
	Image       string      `json:"image"`
	Memory      uint64      `json:"memory"`       // MiB
	Timeout     int32       `json:"timeout"`      // seconds a call may execute
	IdleTimeout int32       `json:"idle_timeout"` // seconds an unused container is kept
	Config      Config      `json:"config"`
	Annotations Annotations `json:"annotations,omitempty"`
	Shape       string      `json:"shape,omitempty"`
	CreatedAt   Timestamp   `json:"created_at"`
	UpdatedAt   Timestamp   `json:"updated_at"`
}

// FnFilter selects and pages the functions of an app; see [PageRequest].
type FnFilter struct {
	AppID string // required
	Name  string // exact; empty selects all
	Page  PageRequest
}

// NormalizeNew prepares a client's function for creation: defaults are filled
// in, reserved annotations dropped, timestamps and shape ignored (the shape is
// the app's).
func (f *Fn) NormalizeNew() {
	if f.Memory == 0 {
		f.Memory = DefaultFnMemoryMiB
	}
	if f.Timeout == 0 {
		f.Timeout = DefaultFnTimeoutSeconds
	}
	if f.IdleTimeout == 0 {
		f.IdleTimeout = DefaultFnIdleSeconds
	}
	if f.Config == nil {
		f.Config = Config{}
	}
	f.Annotations = f.Annotations.WithoutReserved()
	f.Shape = ""
	f.CreatedAt, f.UpdatedAt = Timestamp{}, Timestamp{}
}

// ValidateNew checks a function that a client wants to create.
func (f *Fn) ValidateNew() error {
	if f.ID != "" {
		return ErrFnIDProvided
	}
	return f.Validate()
}

// Validate checks everything but the identifier.
func (f *Fn) Validate() error {
	switch {
	case f.AppID == "":
		return ErrFnMissingAppID
	case f.Name == "":
		return ErrFnMissingName
	case len(f.Name) > MaxNameBytes:
		return ErrFnNameTooLong
	case url.PathEscape(f.Name) != f.Name:
		return ErrFnInvalidName
	case f.Image == "":
		return ErrFnMissingImage
	case len(f.Image) > MaxImageBytes:
		return ErrFnImageTooLong
	case strings.ContainsFunc(f.Image, unicode.IsControl):
		return Errorf(ErrInvalidText, "Invalid Fn image, it contains a control character")
	case f.Timeout < 1 || f.Timeout > MaxFnTimeoutSeconds:
		return ErrFnTimeout
	case f.IdleTimeout < 1 || f.IdleTimeout > MaxFnIdleSeconds:
		return ErrFnIdleTimeout
	case f.Memory < 1 || f.Memory > MaxFnMemoryMiB:
		return ErrFnMemory
	}
	if err := f.Annotations.Validate(); err != nil {
		return err
	}
	return f.Config.Validate()
}

// Merge returns the function changed by patch, validated. Absent and zero
// fields leave the function's value; name, app and shape cannot change.
// UpdatedAt is set to now, or just after what it was, only if something did
// change.
func (f *Fn) Merge(patch *Fn, now Timestamp) (*Fn, error) {
	if patch.ID != "" && patch.ID != f.ID {
		return nil, ErrFnIDMismatch
	}
	merged := *f
	if patch.Image != "" {
		merged.Image = patch.Image
	}
	if patch.Memory != 0 {
		merged.Memory = patch.Memory
	}
	if patch.Timeout != 0 {
		merged.Timeout = patch.Timeout
	}
	if patch.IdleTimeout != 0 {
		merged.IdleTimeout = patch.IdleTimeout
	}
	merged.Config = f.Config.Merge(patch.Config)
	if merged.Config == nil {
		merged.Config = Config{}
	}
	merged.Annotations = f.Annotations.Merge(patch.Annotations.WithoutReserved())
	if err := merged.Validate(); err != nil {
		return nil, err
	}
	if !merged.equal(f) {
		merged.UpdatedAt = now.after(f.UpdatedAt)
	}
	return &merged, nil
}

func (f *Fn) equal(g *Fn) bool {
	return f.Image == g.Image && f.Memory == g.Memory && f.Timeout == g.Timeout && f.IdleTimeout == g.IdleTimeout &&
		f.Config.Equal(g.Config) && f.Annotations.Equal(g.Annotations)
}

// Environment returns the configuration that a function's containers get: the
// app's, overlaid by the function's own.
func Environment(app *App, fn *Fn) Config {
	env := make(Config, len(app.Config)+len(fn.Config))
	maps.Copy(env, app.Config)
	maps.Copy(env, fn.Config)
	return env
}
