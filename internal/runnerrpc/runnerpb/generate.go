// Package runnerpb is generated from proto/runner.proto: the messages of the runner
// protocol, and what calls and serves its methods.
package runnerpb

//go:generate go tool -modfile=../../../tools/proto/go.mod buf generate ../../../proto --template ../../../proto/buf.gen.yaml
