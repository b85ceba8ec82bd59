package invoke

import "context"

// Runner is one machine that executes calls of a load balancer. Runners are told
// apart by their identity, so an implementation is a pointer.
//
// Invoke must not change the call's Header and Extensions: after an error that
// wraps [ErrNotPlaced] another runner gets them. If that error also wraps
// [model.ErrServerBusy], or has its status, the runner is well but has no room.
// Invoke should not take long to find out that a runner cannot be reached.
type Runner interface {
	Invoker

	// Address is where the runner is, for logs and for hashing.
	Address() string

	// Close lets the calls in progress finish, until the context ends. Calls that
	// come after it get an error that wraps [ErrNotPlaced].
	Close(ctx context.Context) error
}

// RunnerPool tells which runners there are now. It is asked at the beginning of each
// sweep over them, so it answers from memory. It must be safe for concurrent use.
// Without a call, nil, it is asked whether there are any.
//
// An error that is the function's fault and has the status 502 ends the call at
// once if there are no runners; others end it when its time is up.
type RunnerPool interface {
	Runners(ctx context.Context, call *Call) ([]Runner, error)

	// Close closes the runners, which lets their calls finish.
	Close(ctx context.Context) error
}
