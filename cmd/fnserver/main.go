// Fnserver is a Tine node. It is configured by environment variables; fnserver
// --help lists them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/tinefn/tine/internal/config"
	"github.com/tinefn/tine/node"
)

func main() {
	node.BeSandbox()
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func run(args, environ []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fnserver", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	version := flags.Bool("version", false, "print the version and end")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return help(stdout, stderr)
	case err == nil && flags.NArg() == 1 && flags.Arg(0) == "doctor":
		return doctor(environ, stdout, stderr)
	case err != nil || flags.NArg() > 0:
		fmt.Fprintf(stderr, "fnserver takes --help, --version or doctor, and no other arguments; settings are environment variables\n")
		return exitUsage
	case *version:
		fmt.Fprintln(stdout, buildVersion())
		return exitOK
	}
	if err := serve(environ, stderr); err != nil {
		fmt.Fprintln(stderr, "fnserver:", err)
		return exitFailure
	}
	return exitOK
}

func help(stdout, stderr io.Writer) int {
	fmt.Fprintln(stdout, "Usage: fnserver [--help | --version | doctor]\n\nA Tine node: keeps the definitions of functions and calls them. The doctor tells whether this machine\ncan run functions without Docker, or with it, and what to change if not. Settings are environment variables;\nfor each X that is not set, X_FILE may name a file that holds the value.")
	if err := config.WriteHelp(stdout); err != nil {
		fmt.Fprintln(stderr, "fnserver:", err)
		return exitFailure
	}
	return exitOK
}

// buildVersion is the version of this program, as the Go tool knows it.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return "fnserver " + info.Main.Version
	}
	return "fnserver (unknown version)"
}

// serve runs a node until a signal asks it to stop. A second signal ends the
// process at once.
func serve(environ []string, stderr io.Writer) error {
	defer runtime.KeepAlive(heapFloor())
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	ctx, release := untilSignal(stderr)
	defer release()
	n, err := node.New(ctx, node.Options{Environ: environ, Dir: dir, Stderr: stderr})
	if err != nil {
		return err
	}
	defer giveBackAtRest()()
	return n.Run(ctx)
}

// untilSignal returns a context that the first signal to stop ends. The second
// one ends the process. Both are received for as long as the process lives, as
// a signal whose handling changes after the first one is lost when it comes in
// between.
func untilSignal(stderr io.Writer) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancel(context.Background())
	received := make(chan os.Signal, 2)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-received
		cancel()
		again := <-received
		fmt.Fprintf(stderr, "fnserver: ended at once by a second signal (%v); containers that are left are removed by the next start with the same FN_STATE_DIR\n", again)
		os.Exit(exitFailure)
	}()
	return ctx, func() { signal.Stop(received); cancel() }
}
