// Bench measures the server against what it is compared with and prints one
// table of it. It starts everything it needs by itself and ends it again: the
// server, nginx as the yardstick, and plain processes of the test function.
//
//	go run ./test/bench [-rows warm,idle] [-json FILE] [-quick]
//
// Variants of a row alternate within the run, because machines are noisy: what
// counts is the ratio of two figures from one run. A target that is missed is
// shown and is no error; the exit code is 1 if something could not be measured.
//
// Read rows.go for what is measured, load.go for how load is made, node.go and
// nginx.go for what it is made against.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// options are what the command line says.
type options struct {
	rows     []row
	json     string // file; empty: none
	quick    bool
	install  bool
	overload time.Duration
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parseOptions(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	if err := measure(ctx, opts, stdout, newProgress(stderr)); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return exitFailure
	}
	return exitOK
}

// parseOptions writes what is wrong with the arguments to stderr.
func parseOptions(args []string, stderr io.Writer) (options, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "Usage: go run ./test/bench [flags]")
		flags.PrintDefaults()
		fmt.Fprintln(stderr, "\nRows:")
		for _, r := range rows {
			fmt.Fprintf(stderr, "  %-13s %s\n", r.name, r.what)
		}
	}
	var opts options
	names := flags.String("rows", "", "rows to measure, separated by commas; default: all")
	flags.StringVar(&opts.json, "json", "", "file to write the results to as JSON")
	flags.BoolVar(&opts.quick, "quick", false, "about two seconds for each row: shows that all works, the figures mean little")
	flags.BoolVar(&opts.install, "install", false, "install nginx, and what functions in other languages need, with apt-get if it is missing (as root)")
	overloadSeconds := flags.Int("overload-seconds", 20, "how long the node is overloaded in row overload")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case *overloadSeconds < 1:
		err = errors.New("-overload-seconds must be at least 1")
	default:
		opts.rows, err = selectRows(*names)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return options{}, err
	}
	opts.overload = time.Duration(*overloadSeconds) * time.Second
	if opts.quick {
		opts.overload = min(opts.overload, 2*time.Second)
	}
	return opts, nil
}

// selectRows returns the rows of a list of names, in the table's order.
func selectRows(list string) ([]row, error) {
	if list == "" {
		return rows, nil
	}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	var selected []row
	for _, r := range rows {
		if wanted[r.name] {
			selected = append(selected, r)
			delete(wanted, r.name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("there is no row %q; -h lists them", name)
	}
	return selected, nil
}

// measure prepares what rows need, runs them, and reports. A row that fails
// does not keep the others from being measured.
func measure(ctx context.Context, opts options, stdout io.Writer, progress *progress) (err error) {
	defer progress.clear()
	b := &bench{quick: opts.quick, overload: opts.overload, progress: progress}
	for _, r := range opts.rows {
		if r.yardstick && b.nginx == "" {
			progress.show("looking for nginx")
			if b.nginx, err = findNginx(ctx, opts.install); err != nil {
				return err
			}
		}
	}
	// Short, because the names of sockets are.
	if b.dir, err = os.MkdirTemp("", "tb"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.engine, err = client.New(client.FromEnv); err != nil {
		return fmt.Errorf("container engine: %w", err)
	}
	defer b.engine.Close()
	progress.show("building")
	if err := b.build(ctx); err != nil {
		return err
	}
	if slices.ContainsFunc(opts.rows, func(r row) bool { return r.languages }) {
		progress.show("building functions in other languages")
		if err := b.buildLanguages(ctx, opts.install); err != nil {
			return err
		}
	}
	report := report{environment: describeEnvironment(ctx, opts.quick, time.Now())}
	var failures []error
	for _, r := range opts.rows {
		progress.row = r.name
		progress.show("")
		lines, err := r.run(ctx, b)
		if err == nil {
			report.Lines = append(report.Lines, label(r.name, lines)...)
			continue
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		failures = append(failures, fmt.Errorf("row %s: %w", r.name, err))
		if ctx.Err() != nil {
			break
		}
	}
	progress.clear()
	failures = append(failures, report.writeTable(stdout))
	if opts.json != "" {
		failures = append(failures, report.writeJSON(filepath.Clean(opts.json)))
	}
	return errors.Join(failures...)
}
