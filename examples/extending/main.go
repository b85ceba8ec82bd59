// Extending is a server of its own, made of Tine: apps have a plan that says how much
// processor time their functions get. It shows the extension points that providers use
// most; docs/extending.md lists all of them.
//
// It is every type of node, by FN_NODE_TYPE, as fnserver is. What a node has no use
// for has no effect on it, so that all of them have the same options.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/tinefn/tine/definition"
	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/node"
)

func main() {
	node.BeSandbox() // the native driver may start this program as the first process of a sandbox
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "extending:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	n, err := node.New(ctx, node.Options{
		Environ: os.Environ(), Dir: dir, Stderr: os.Stderr,

		// Where calls come in, on a load balancer or a full node, they get the plan of their
		// app as an extension; where they are executed, containers are made by it.
		Override:   withPlan,
		WrapDriver: []func(driver.Driver) driver.Driver{byPlan},

		// Where definitions are kept.
		AppListeners: []definition.AppListener{{BeforeCreate: checkName}},
		Endpoints:    []node.Endpoint{{Method: http.MethodGet, Path: "/plans", Handler: http.HandlerFunc(listPlans)}},

		// On all nodes.
		RootMiddleware: []func(http.Handler) http.Handler{signed},
	})
	if err != nil {
		return err
	}
	return n.Run(ctx)
}
