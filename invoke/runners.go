package invoke

import "context"

// Runner is another machine that executes calls. An error of Invoke that wraps
// [ErrNotPlaced] lets the call be tried elsewhere; any other is final.
type Runner interface {
	Invoker
	// Address is where it is, and who: two runners of one address are the same.
	Address() string
	// Close lets calls in progress finish, until ctx ends.
	Close(ctx context.Context) error
}

// RunnerPool tells which runners there are, for a load balancer. It must be safe
// for concurrent use.
type RunnerPool interface {
	// Runners returns those that may get the call. It is asked for every call, and
	// again while a call waits for one that takes it: it returns at once, from what
	// it knows.
	Runners(ctx context.Context, call *Call) ([]Runner, error)
	// Close closes the runners too.
	Close(ctx context.Context) error
}
