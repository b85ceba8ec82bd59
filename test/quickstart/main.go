// Quickstart takes a newcomer from a fresh clone to a function that answers:
// it builds the server and the example function, starts the one, registers the
// other, calls it in both ways, and prints what to try next. It needs root, or
// else Docker; fnserver doctor tells what is missing.
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
	"syscall"
	"time"

	"github.com/tinefn/tine/test/functions"
)

func main() {
	// A terminal that is closed hangs up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// warmCalls is how many calls the printed warm time is the median of.
const warmCalls = 20

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	once := flags.Bool("once", false, "end after the calls instead of serving on")
	data := flags.String("data", "data", "directory for the database, sockets and the server's log")
	port := flags.Int("port", 8080, "port to serve on; another free one is taken if it is in use")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := filepath.Abs(*data)
	if err != nil {
		return err
	}

	say(out, "Building the server and the example function examples/hello-go")
	binary, err := buildServer(ctx, "bin")
	if err != nil {
		return err
	}
	image, archive, err := functions.Build(ctx, functions.Go, "examples/hello-go")
	if err != nil {
		return err
	}

	say(out, "Starting the server, data in %s", dir)
	server, err := startServer(ctx, binary, dir, archive, *port)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, server.stop()); err == nil {
			say(out, "The server has ended")
		}
	}()

	say(out, "Registering app demo, function hello and trigger /hello")
	api := &apiClient{base: server.url}
	fnID, err := register(ctx, api, image)
	if err != nil {
		return err
	}
	if err := showCalls(ctx, api, fnID, out); err != nil {
		return err
	}
	if *once {
		return nil
	}
	fmt.Fprintf(out, "\nThe server goes on at %s until you press Ctrl-C.\n", server.url)
	select {
	case <-ctx.Done():
		say(out, "Stopping")
		return nil
	case <-server.ended:
		return errors.New("the server ended by itself, see " + server.log)
	}
}

// showCalls calls the function in both ways and prints answers and times.
func showCalls(ctx context.Context, api *apiClient, fnID string, out io.Writer) error {
	invokeURL := api.base + "/invoke/" + fnID
	triggerURL := api.base + "/t/demo/hello"

	cold, answer, err := api.call(ctx, invokeURL, `{"name":"Tine"}`)
	if err != nil {
		return fmt.Errorf("the first call: %w", err)
	}
	fmt.Fprintf(out, "\n  POST %s\n    -> %s\n", invokeURL, answer)
	var warm []time.Duration
	for range warmCalls {
		took, _, err := api.call(ctx, invokeURL, `{"name":"Tine"}`)
		if err != nil {
			return fmt.Errorf("a warm call: %w", err)
		}
		warm = append(warm, took)
	}
	slices.Sort(warm)
	_, answer, err = api.call(ctx, triggerURL, `{"name":"trigger"}`)
	if err != nil {
		return fmt.Errorf("the call through the trigger: %w", err)
	}
	fmt.Fprintf(out, "  POST %s\n    -> %s\n\n", triggerURL, answer)
	fmt.Fprintf(out, "  cold call %.1f ms (a container was made for it), warm call %.2f ms (median of %d)\n\n",
		milliseconds(cold), milliseconds(warm[len(warm)/2]), len(warm))
	fmt.Fprintf(out, "  Try it:  curl -d '{\"name\":\"you\"}' %s\n", triggerURL)
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func say(out io.Writer, format string, args ...any) { fmt.Fprintf(out, "==> "+format+"\n", args...) }
