// Package store is the seam between Tine and the database that keeps its
// definitions, and what is put around it: listeners, and word of changes.
// Implementations pass the suite in package storetest.
package store

import "github.com/tinefn/tine/definition"

// The seam is public, for programs with a store of their own; see there for its rules.
type (
	Store    = definition.Store
	Apps     = definition.Apps
	Fns      = definition.Fns
	Triggers = definition.Triggers
)
