//go:build !linux

package main

// beSandbox does nothing: sandboxes exist on Linux only.
func beSandbox() {}
