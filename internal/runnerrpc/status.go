package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// StatusOptions says what is looked at when somebody asks how the runner is.
type StatusOptions struct {
	// Image, if set, is called to find out whether the runner can execute calls. A
	// healthy one answers with JSON. Nobody else may call it.
	Image string

	// BarrierFile, if set, is a file without which functions get no network. The
	// status image gets none either then.
	BarrierFile string

	// Check, if set, is asked before the image, and its answer is told to whoever
	// asked. If it fails the image is not called.
	Check func(ctx context.Context) (map[string]string, error)

	// KernelDumps, if set, counts what crashes of the kernel left on the disk.
	KernelDumps func() uint64

	Observer StatusObserver // nil: none
}

// StatusObserver is told, for metrics, how the runner was found. It must return at
// once.
type StatusObserver interface {
	StatusChecked(cached, success, networkDisabled bool)
}

// The call of the status image. Sources: the runner protocol.
const (
	statusCallSeconds = 5
	statusIdleSeconds = 1
	statusPatience    = time.Minute             // for all of it
	statusTTL         = 1500 * time.Millisecond // how long it is believed
	statusID          = "runner-status"         // of its function and app, which nobody has made

	maxStatusBytes = 1 << 20 // of its answer
)

// statusRuns are the looks at the runner, one at a time.
type statusRuns struct {
	server *Server
	runs   sync.WaitGroup

	mu      sync.Mutex // guards the rest
	running *statusRun // nil: none
	last    *statusRun // that has ended; nil: none yet
}

// statusRun is one look at the runner.
type statusRun struct {
	input  string        // of the image
	done   chan struct{} // closed when the rest is set
	status *runnerpb.RunnerStatus
	at     time.Time
}

// Status tells how the runner is.
func (s *Server) Status(ctx context.Context, _ *emptypb.Empty) (*runnerpb.RunnerStatus, error) {
	return s.statusOf(ctx, "{}")
}

// Status2 is Status with something for the status image to read.
func (s *Server) Status2(ctx context.Context, input *structpb.Struct) (*runnerpb.RunnerStatus, error) {
	text, err := input.MarshalJSON()
	if err != nil {
		return nil, breached(err.Error())
	}
	return s.statusOf(ctx, string(text))
}

func (s *Server) statusOf(ctx context.Context, input string) (*runnerpb.RunnerStatus, error) {
	found := &runnerpb.RunnerStatus{}
	if s.opts.Status.Image != "" {
		run, cached, err := s.status.get(ctx, input)
		if err != nil {
			return nil, err
		}
		found = proto.CloneOf(run.status)
		found.Cached = cached
		if observer := s.opts.Status.Observer; observer != nil {
			observer.StatusChecked(cached, !found.GetFailed(), found.GetIsNetworkDisabled())
		}
	}
	found.Active = int32(s.count())
	found.RequestsReceived, found.RequestsHandled = s.received.Load(), s.handled.Load()
	if count := s.opts.Status.KernelDumps; count != nil {
		found.KdumpsOnDisk = count()
	}
	return found, nil
}

// get returns how the runner was found at the last look, or looks again if that was
// long ago or with another input.
func (r *statusRuns) get(ctx context.Context, input string) (run *statusRun, cached bool, err error) {
	for {
		r.mu.Lock()
		if r.last != nil && r.last.input == input && time.Since(r.last.at) < statusTTL {
			defer r.mu.Unlock()
			return r.last, true, nil
		}
		run, cached := r.running, true
		if run == nil {
			run, cached = &statusRun{input: input, done: make(chan struct{})}, false
			r.running = run
			// The look goes on without who asked for it: others wait too.
			within, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusPatience)
			stop := context.AfterFunc(r.server.draining, cancel)
			r.runs.Go(func() {
				defer cancel()
				defer stop()
				r.finish(run, r.server.look(within, input))
			})
		}
		r.mu.Unlock()
		select {
		case <-run.done:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
		if run.input == input {
			return run, cached, nil
		}
	}
}

func (r *statusRuns) finish(run *statusRun, found *runnerpb.RunnerStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run.status, run.at = found, time.Now()
	r.running, r.last = nil, run
	close(run.done)
}

// look finds out how the runner is: the file, the embedding program's own check,
// the image.
func (s *Server) look(ctx context.Context, input string) (found *runnerpb.RunnerStatus) {
	found = &runnerpb.RunnerStatus{IsNetworkDisabled: s.isNetworkDisabled()}
	defer s.recoverLook(found)
	var err error
	if check := s.opts.Status.Check; check != nil {
		if found.CustomStatus, err = check(ctx); err != nil {
			s.failStatus(found, fmt.Errorf("check of the runner: %w", err))
			return found
		}
	}
	call := s.statusCall(input, found.GetIsNetworkDisabled())
	created := time.Now()
	var started time.Time
	call.OnStart = func() { started = time.Now() }
	found.Id, found.CreatedAt = call.ID, timestamp(created)
	timing, err := s.callStatusImage(ctx, call, found)
	completed := time.Now()
	found.StartedAt, found.CompletedAt = timestamp(started), timestamp(completed)
	if !started.IsZero() {
		found.SchedulerDuration, found.ExecutionDuration = int64(started.Sub(created)), int64(completed.Sub(started))
	}
	if timing != nil {
		found.ImagePullWaitDuration, found.CtrCreateDuration, found.InitStartTime = int64(timing.Image), int64(timing.Create+timing.Start), int64(timing.Init)
	}
	if err != nil {
		s.failStatus(found, err)
	}
	return found
}

// recoverLook makes a failed status of a panic: a look is on a goroutine of its own,
// where nobody else recovers.
func (s *Server) recoverLook(found *runnerpb.RunnerStatus) {
	if cause := recover(); cause != nil {
		s.logPanic(runnerpb.RunnerProtocol_Status_FullMethodName, cause)
		found.Failed, found.ErrorStr = true, panicText
	}
}

// isNetworkDisabled reports whether functions get no network yet.
func (s *Server) isNetworkDisabled() bool {
	if s.opts.Status.BarrierFile == "" {
		return false
	}
	_, err := os.Stat(s.opts.Status.BarrierFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("the network barrier file cannot be looked at", slog.Any("error", err))
	}
	return err != nil
}

// statusCall is a call of the status image, in an instance of its own.
func (s *Server) statusCall(input string, noNetwork bool) *invoke.Call {
	id := model.NewID()
	return &invoke.Call{
		ID: id, Slot: id, App: &model.App{ID: statusID, Name: statusID},
		Fn: &model.Fn{
			ID: statusID, Name: statusID, AppID: statusID, Image: s.opts.Status.Image,
			Timeout: statusCallSeconds, IdleTimeout: statusIdleSeconds,
		},
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   invoke.HoldBody([]byte(input)), ContentLength: int64(len(input)),
		Container: invoke.Container{NoNetwork: noNetwork},
	}
}

// callStatusImage writes the image's answer into what was found.
func (s *Server) callStatusImage(ctx context.Context, call *invoke.Call, found *runnerpb.RunnerStatus) (*invoke.Timing, error) {
	response, err := s.opts.Invoker.Invoke(ctx, call)
	if err != nil {
		return nil, err
	}
	details, err := io.ReadAll(io.LimitReader(response.Body, maxStatusBytes))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return response.Timing, err
	}
	found.Details = string(details)
	code, err := strconv.Atoi(response.Header.Get("Fn-Http-Status"))
	if err == nil && code >= http.StatusBadRequest {
		return response.Timing, &model.Error{Kind: model.ErrRemote, Status: code, Message: "the status image answers " + strconv.Itoa(code)}
	}
	return response.Timing, nil
}

// failStatus writes an error into what was found.
func (s *Server) failStatus(found *runnerpb.RunnerStatus, err error) {
	s.log.Warn("the runner is not well", slog.Any("error", err))
	found.Failed, found.ErrorStr = true, err.Error()
	if d := model.Describe(err); d.Kind != model.ErrInternal {
		found.ErrorCode, found.ErrorStr = int32(d.Status), d.Text
	}
}

// Status is how a runner is. Times are of its clock; what comes from a call of its
// status image is zero if it has none.
type Status struct {
	Active            int    // calls in progress
	Received, Handled uint64 // calls so far; those that were refused as busy are not handled
	KernelDumps       uint64

	Failed          bool
	ErrorCode       int // HTTP status, 0 if there is none
	Error           string
	CallID, Details string            // of the status image's call
	Custom          map[string]string // of the embedding program's check
	Cached          bool              // all but the numbers is from an earlier look
	NetworkDisabled bool

	Created, Started, Completed time.Time // zero: they cannot be read
	Queued, Execution           time.Duration
}

// Status asks the runner how it is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	answer, err := c.rpc.Status(ctx, &emptypb.Empty{}) //nolint:staticcheck // Fn's runners need not have Status2
	if err != nil {
		return Status{}, fmt.Errorf("status of runner %s: %w", c.address, err)
	}
	s := Status{
		Active: int(answer.GetActive()), Received: answer.GetRequestsReceived(), Handled: answer.GetRequestsHandled(),
		KernelDumps: answer.GetKdumpsOnDisk(), Failed: answer.GetFailed(), ErrorCode: int(answer.GetErrorCode()), Error: answer.GetErrorStr(),
		CallID: answer.GetId(), Details: answer.GetDetails(), Custom: answer.GetCustomStatus(), Cached: answer.GetCached(),
		NetworkDisabled: answer.GetIsNetworkDisabled(),
		Queued:          time.Duration(answer.GetSchedulerDuration()), Execution: time.Duration(answer.GetExecutionDuration()),
	}
	s.Created, s.Started, s.Completed = readTime(answer.GetCreatedAt()), readTime(answer.GetStartedAt()), readTime(answer.GetCompletedAt())
	return s, nil
}

// readTime reads a time as it travels; the zero time is one that cannot be read.
func readTime(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return at
}
