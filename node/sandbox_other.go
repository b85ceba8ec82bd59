//go:build !linux

package node

// BeSandbox does nothing: sandboxes exist on Linux only.
func BeSandbox() {}
