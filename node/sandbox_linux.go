package node

import (
	"os"

	"github.com/tinefn/tine/driver/native/sandbox"
	"github.com/tinefn/tine/driver/native/sandboxinit"
)

// BeSandbox becomes the first process of a sandbox, and does not return, if a node has
// started this program as one, which the native driver does for lack of a program
// sandbox-init beside it. Main functions call it before anything else.
func BeSandbox() {
	if len(os.Args) == 1 && os.Args[0] == sandbox.SelfArg {
		sandboxinit.Main()
	}
}
