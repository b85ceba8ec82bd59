//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "sandbox-init: sandboxes exist on Linux only")
	os.Exit(1)
}
