// Testfn is the function that tests of a function server call. It speaks the
// function container contract by itself, with nothing but the standard library
// and its system calls (x/sys), and does on request what real functions do and
// what they should not do.
//
// # As a program
//
// With arguments it is a plain process for tests of container drivers:
//
//	testfn exit N        ends at once with status N
//	testfn sleep         sleeps until it is ended
//	testfn deaf          sleeps and ignores SIGTERM
//	testfn print A B     writes A to standard output and B to standard error
//	testfn write PATH A  opens a file that is there and writes A to it
//	testfn env NAME      writes the value of a variable to standard output
//	testfn fill N        fills N bytes of memory, then sleeps
//	testfn fork N        makes N processes, ends them, writes how many it could make
//	testfn escape        tries to get out as its input says, see package escape
//	testfn inspect       writes what it sees of its container, as JSON ([report])
//
// Without arguments it is a function: FN_FORMAT must be http-stream or empty,
// FN_LISTENER names the socket. It listens on phony<name> beside it and then
// makes <name> a symbolic link to that.
//
// # JSON protocol
//
// A call without the header Testfn-Mode is a JSON request ([request]) and gets
// a JSON answer ([answer]). A body that is not JSON is an empty request. A call
// without Fn-Deadline ends the process, because a server must send one.
//
// Variables: ENABLE_HEADER and ENABLE_FOOTER (text that is logged at the
// start and the end of the process), ENABLE_INIT_DELAY_MSEC (before listening),
// ENABLE_INIT_EXIT (exit status instead of listening, after the delay),
// ENABLE_EXIT_DELAY_MSEC (before the end of the process),
// ENABLE_FAIL_IF_FN_SPAWN_CALL_ID_NONMATCH (exit if FN_SPAWN_CALL_ID is not
// this), ENABLE_FAIL_IF_FN_SPAWN_CALL_ID_NONMATCH_MSEC (after that delay) and
// ENABLE_FALSE_SOCKET (makes something else in the socket's place: pipe, file,
// directory, or a link to what it says).
//
// # Modes
//
// The header Testfn-Mode, or Fn-Http-H-Testfn-Mode in a call through a trigger,
// selects one of the raw behaviours of modes.go. Their parameters are headers
// too, likewise with either name:
//
//	echo      sends the request body back while it arrives
//	reply     sends the request body back in one piece when it has all of it
//	count     reads the body and answers its length in bytes, in decimal
//	bytes     Testfn-Size bytes; without a declared length if Testfn-Chunked is set
//	chunks    Testfn-Count pieces of Testfn-Size bytes, one each Testfn-Interval-Ms, flushed
//	headers   Testfn-Count headers X-Testfn-<n> of Testfn-Size bytes each
//	early     answers "early" before it reads the body, then reads it
//	garbage   answers something that is not HTTP and closes
//	reset     closes the connection without an answer
//	hang      reads the body and never answers
//	panic     stops in the middle of the body, the process lives on
//	crash     stops in the middle of the body and ends the process with status 1
//	output    writes Testfn-Stdout and Testfn-Stderr there, a line each, and answers nothing
//	flood     writes Testfn-Size bytes of lines, half of them to each of both, and answers nothing
//	inspect   answers the [report], with the headers of the request
//	replace   puts a link to Testfn-Target in the place of its socket and answers nothing
//	escape    tries to get out of the container as the body says, see package escape
//	bomb      takes too much of something, likewise
//	facts     answers what it sees of its container, for people
//	listen    listens for TCP and UDP and answers the addresses
//
// Any mode that answers takes Testfn-Status, the status of the container's
// answer (by default 200), Testfn-Close, to close the connection after the
// answer, and Testfn-Delay-Ms, a pause before the answer.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit status.
func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		return command(args, getenv, stdout, stderr)
	}
	logger := log.New(stderr, "", 0)
	if text := getenv("ENABLE_HEADER"); text != "" {
		logger.Print(text)
	}
	code := function(getenv, stdout, stderr)
	sleepMillis(getenv("ENABLE_EXIT_DELAY_MSEC"))
	if text := getenv("ENABLE_FOOTER"); text != "" {
		logger.Print(text)
	}
	return code
}

// function is the life of a function's process.
func function(getenv func(string) string, stdout, stderr io.Writer) int {
	if want := getenv("ENABLE_FAIL_IF_FN_SPAWN_CALL_ID_NONMATCH"); want != "" && want != getenv("FN_SPAWN_CALL_ID") {
		sleepMillis(getenv("ENABLE_FAIL_IF_FN_SPAWN_CALL_ID_NONMATCH_MSEC"))
		return 255
	}
	sleepMillis(getenv("ENABLE_INIT_DELAY_MSEC"))
	if text := getenv("ENABLE_INIT_EXIT"); text != "" {
		return number(text, 1)
	}
	if format := getenv("FN_FORMAT"); format != "" && format != "http-stream" {
		fmt.Fprintf(stderr, "FN_FORMAT %q is not http-stream\n", format)
		return 1
	}
	if kind := getenv("ENABLE_FALSE_SOCKET"); kind != "" {
		if err := makeFalse(kind, getenv("FN_LISTENER")); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		sleepUntilEnded()
	}
	listener, err := listen(getenv("FN_LISTENER"))
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	f := newFn(os.Environ(), stdout, stderr, os.Exit)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := f.serve(ctx, listener); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// listen makes the socket and then its name, so that the name appears when
// connecting works.
func listen(address string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok || path == "" {
		return nil, fmt.Errorf("FN_LISTENER %q is not unix:<path>", address)
	}
	phony := "phony" + filepath.Base(path)
	phonyPath := filepath.Join(filepath.Dir(path), phony)
	for _, old := range []string{path, phonyPath} {
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	listener, err := net.Listen("unix", phonyPath)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(phonyPath, 0o666); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if err := os.Symlink(phony, path); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// fn is the function. It serves one call at a time, as servers promise.
type fn struct {
	environ        []string
	stdout, stderr io.Writer
	exit           func(code int) // os.Exit, replaced in tests

	stopOnce sync.Once
	stopped  chan struct{} // closed when the function is to stop serving

	mu     sync.Mutex // guards held and leaked
	held   []byte     // allocateMemory, until the next call
	leaked [][]byte   // leakMemory, for ever
}

func newFn(environ []string, stdout, stderr io.Writer, exit func(int)) *fn {
	return &fn{environ: environ, stdout: stdout, stderr: stderr, exit: exit, stopped: make(chan struct{})}
}

// stop ends serving; calls that hang are let go.
func (f *fn) stop() { f.stopOnce.Do(func() { close(f.stopped) }) }

// serve answers calls until ctx ends or a call asks for the end.
func (f *fn) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:  f,
		ErrorLog: log.New(io.Discard, "", 0), // aborted handlers are meant
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer f.stop()
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-f.stopped:
		}
		f.stop()
		// The answer in progress gets its chance.
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // the connections end with the process
		}
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (f *fn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mode := parameter(r, "Testfn-Mode")
	if mode == "" {
		f.answerJSON(w, r)
		return
	}
	serve, ok := modes[mode]
	if !ok {
		http.Error(w, "unknown Testfn-Mode "+mode, http.StatusBadGateway)
		return
	}
	serve(f, w, r)
}

// command runs the process for tests of drivers.
func command(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch args[0] {
	case "exit":
		return number(arg(1), 0)
	case "sleep":
		sleepUntilEnded()
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		fmt.Fprintln(stdout, "deaf")
		sleepUntilEnded()
	case "print":
		fmt.Fprintln(stdout, arg(1))
		fmt.Fprintln(stderr, arg(2))
	case "write":
		if err := writeTo(arg(1), arg(2)); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
	case "env":
		fmt.Fprintln(stdout, getenv(arg(1)))
	case "fill":
		debug.SetGCPercent(-1)
		fill(number(arg(1), 0)) // for good, without a collector
		sleepUntilEnded()
	case "fork":
		fmt.Fprintln(stdout, fork(number(arg(1), 0)))
	case "inspect":
		if err := inspect(nil).write(stdout); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
	case "escape":
		if err := tryEscape(os.Stdin, stdout); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
	default:
		fmt.Fprintf(stderr, "unknown command %q\n", args[0])
		return 2
	}
	return 0
}

func writeTo(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, text)
	return errors.Join(err, file.Close())
}

// sleepUntilEnded is not an empty select: the runtime would call that a deadlock.
func sleepUntilEnded() {
	for {
		time.Sleep(time.Hour)
	}
}

// fill allocates n bytes and touches every page of them.
func fill(n int) []byte {
	const page = 4096
	block := make([]byte, max(n, 0))
	for i := 0; i < len(block); i += page {
		block[i] = 1
	}
	return block
}

func sleepMillis(text string) {
	time.Sleep(time.Duration(number(text, 0)) * time.Millisecond)
}

// number parses a decimal number; what is none is the fallback.
func number(text string, fallback int) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return fallback
	}
	return n
}
