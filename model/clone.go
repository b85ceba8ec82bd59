package model

import (
	"maps"
	"slices"
)

// Clone returns a copy that shares nothing with a; nil of nil.
func (a *App) Clone() *App {
	if a == nil {
		return nil
	}
	clone := *a
	clone.Config, clone.Annotations = maps.Clone(a.Config), a.Annotations.Clone()
	if a.SyslogURL != nil {
		url := *a.SyslogURL
		clone.SyslogURL = &url
	}
	return &clone
}

// Clone returns a copy that shares nothing with f; nil of nil.
func (f *Fn) Clone() *Fn {
	if f == nil {
		return nil
	}
	clone := *f
	clone.Config, clone.Annotations = maps.Clone(f.Config), f.Annotations.Clone()
	return &clone
}

// Clone returns a copy that shares nothing with t; nil of nil.
func (t *Trigger) Clone() *Trigger {
	if t == nil {
		return nil
	}
	clone := *t
	clone.Annotations = t.Annotations.Clone()
	return &clone
}

// Clone returns a copy that shares nothing with a; nil of nil.
func (a Annotations) Clone() Annotations {
	clone := maps.Clone(a)
	for key, value := range clone {
		clone[key] = slices.Clone(value)
	}
	return clone
}
