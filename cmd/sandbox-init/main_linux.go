// Sandbox-init is the first process in each sandbox of the native driver. The
// server starts it; see package sandboxinit.
package main

import "github.com/tinefn/tine/driver/native/sandboxinit"

func main() { sandboxinit.Main() }
