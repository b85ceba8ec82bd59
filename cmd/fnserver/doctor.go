package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tinefn/tine/node"
)

// doctorTimeout bounds the doctor's work. An engine that hangs takes most of it.
const doctorTimeout = time.Minute

// doctor tells which driver works on this machine, and why another does not.
func doctor(environ []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(context.Background(), doctorTimeout)
	defer cancel()
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(stderr, "fnserver doctor:", err)
		return exitFailure
	}
	works, err := node.Doctor(ctx, node.Options{Environ: environ, Dir: dir}, stdout)
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "fnserver doctor:", err)
		return exitFailure
	case !works:
		return exitFailure
	}
	return exitOK
}
