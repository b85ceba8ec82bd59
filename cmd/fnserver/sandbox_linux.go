package main

import (
	"os"

	"github.com/tinefn/tine/driver/native/sandbox"
	"github.com/tinefn/tine/driver/native/sandboxinit"
)

// beSandbox becomes the first process of a sandbox, and does not return, if a server
// has started this program as one, for lack of sandbox-init beside it.
func beSandbox() {
	if len(os.Args) == 1 && os.Args[0] == sandbox.SelfArg {
		sandboxinit.Main()
	}
}
