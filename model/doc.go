// Package model holds Tine's nouns: applications, functions, triggers, their
// identifiers, validation and merge rules, and the one table that says which
// HTTP status and text each failure has.
//
// It imports only the standard library and knows neither databases nor
// containers nor HTTP handlers. Read app.go, fn.go and trigger.go for the
// definitions, then error.go for what can go wrong with them.
package model
