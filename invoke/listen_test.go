package invoke_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// diary notes what listeners hear; refuse and fail name what they object to.
type diary struct {
	lines        []string
	refuse, fail string
	outcome      invoke.Outcome
	canceled     bool // the context of AfterCall was
}

var errDiary = errors.New("for the test")

func (d *diary) note(line, object string) error {
	d.lines = append(d.lines, line)
	if line == object {
		return errDiary
	}
	return nil
}

func (d *diary) listener(name string) invoke.CallListener {
	return invoke.CallListener{
		BeforeCall: func(context.Context, *invoke.Call) error { return d.note("before "+name, d.refuse) },
		AfterCall: func(ctx context.Context, _ *invoke.Call, outcome invoke.Outcome) error {
			d.outcome, d.canceled = outcome, ctx.Err() != nil
			return d.note("after "+name, d.fail)
		},
	}
}

// answers is an invoker that starts calls and answers with body.
func (d *diary) answers(body io.ReadCloser, err error) invoke.Invoker {
	return invoke.InvokerFunc(func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
		d.lines = append(d.lines, "held")
		if call.BeforeStart != nil {
			if err := call.BeforeStart(); err != nil {
				return nil, err
			}
		}
		d.lines = append(d.lines, "sent")
		if err != nil {
			return nil, err
		}
		return &invoke.Response{Body: body, Timing: &invoke.Timing{Cold: true}}, nil
	})
}

func stream(text string) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }

func TestListenersHearOfCalls(t *testing.T) {
	for name, test := range map[string]struct {
		atOnce       bool
		refuse, fail string
		body         io.ReadCloser
		err          error
		want         string // the diary's lines
		status       string
	}{
		"streamed":            {body: stream("x"), want: "held,before 1,before 2,sent,read,after 1,after 2", status: "success"},
		"in memory":           {body: invoke.HoldBody([]byte("x")), want: "held,before 1,before 2,sent,after 1,after 2,read", status: "success"},
		"before placement":    {atOnce: true, body: stream("x"), want: "before 1,before 2,held,sent,read,after 1,after 2", status: "success"},
		"refused":             {refuse: "before 1", body: stream("x"), want: "held,before 1"},
		"refused later":       {refuse: "before 2", body: stream("x"), want: "held,before 1,before 2"},
		"refused at once":     {atOnce: true, refuse: "before 1", want: "before 1"},
		"the end is objected": {fail: "after 1", body: stream("x"), want: "held,before 1,before 2,sent,read,after 1", status: "success"},
		"failed":              {err: model.ErrFunctionFailed, want: "held,before 1,before 2,sent,after 1,after 2", status: "error"},
		"timed out":           {err: model.ErrCallTimeout, want: "held,before 1,before 2,sent,after 1,after 2", status: "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &diary{refuse: test.refuse, fail: test.fail}
			var log bytes.Buffer
			listen := invoke.Listen([]invoke.CallListener{d.listener("1"), {}, d.listener("2")}, invoke.ListenOptions{
				AtOnce: test.atOnce, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			response, err := listen(d.answers(test.body, test.err)).Invoke(ctx, newCall())
			cancel()
			switch {
			case test.refuse != "":
				if !errors.Is(err, errDiary) {
					t.Errorf("got %v", err)
				}
			case test.err != nil:
				if !errors.Is(err, test.err) {
					t.Errorf("got %v", err)
				}
			case err != nil:
				t.Fatal(err)
			default:
				d.lines = append(d.lines, "read")
				if got, err := io.ReadAll(response.Body); err != nil || string(got) != "x" {
					t.Errorf("answer %q, %v", got, err)
				}
				if err := response.Body.Close(); err != nil {
					t.Error(err)
				}
			}
			if got := strings.Join(d.lines, ","); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if d.outcome.Status != test.status || !errors.Is(d.outcome.Err, test.err) || d.canceled {
				t.Errorf("outcome %+v, context cancelled %v", d.outcome, d.canceled)
			}
			if test.status != "" && (d.outcome.Started.IsZero() || d.outcome.Completed.Before(d.outcome.Started)) {
				t.Errorf("times %+v", d.outcome)
			}
			if test.status == "success" && (d.outcome.Timing == nil || !d.outcome.Timing.Cold) {
				t.Errorf("timing %+v", d.outcome.Timing)
			}
			if (test.fail != "") != strings.Contains(log.String(), "a listener failed after a call") {
				t.Errorf("log %q", log.String())
			}
		})
	}
}

func TestListenersHearHowAnAnswerEnds(t *testing.T) {
	broken := func() io.ReadCloser {
		reader, writer := io.Pipe()
		writer.CloseWithError(model.ErrFunctionResponse)
		return reader
	}
	for name, test := range map[string]struct {
		body io.ReadCloser
		read bool
		want error
	}{
		"it breaks":         {broken(), true, model.ErrFunctionResponse},
		"the caller leaves": {stream("x"), false, model.ErrClientCanceled},
	} {
		d := &diary{}
		response, err := invoke.Listen([]invoke.CallListener{d.listener("1")}, invoke.ListenOptions{})(d.answers(test.body, nil)).Invoke(t.Context(), newCall())
		if err != nil {
			t.Fatal(err)
		}
		if test.read {
			io.ReadAll(response.Body)
		}
		response.Body.Close()
		response.Body.Close()
		if !errors.Is(d.outcome.Err, test.want) || d.outcome.Status != invoke.StatusError {
			t.Errorf("%s: %+v", name, d.outcome)
		}
		if n := len(slices.DeleteFunc(d.lines, func(line string) bool { return line != "after 1" })); n != 1 {
			t.Errorf("%s: heard %d times", name, n)
		}
	}
}

func TestListenersHearOfAPanicAndNotOfCallsThatNeverStart(t *testing.T) {
	d := &diary{}
	listen := invoke.Listen([]invoke.CallListener{d.listener("1")}, invoke.ListenOptions{})
	busy := listen(invoke.InvokerFunc(func(context.Context, *invoke.Call) (*invoke.Response, error) { return nil, model.ErrServerBusy }))
	if _, err := busy.Invoke(t.Context(), newCall()); !errors.Is(err, model.ErrServerBusy) || len(d.lines) != 0 {
		t.Errorf("%v, heard %q", err, d.lines)
	}
	func() {
		defer func() { _ = recover() }()
		listen(invoke.InvokerFunc(func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
			if err := call.BeforeStart(); err != nil {
				t.Error(err)
			}
			panic("for the test")
		})).Invoke(t.Context(), newCall())
	}()
	if !slices.Equal(d.lines, []string{"before 1", "after 1"}) || d.outcome.Status != invoke.StatusError {
		t.Errorf("heard %q, %+v", d.lines, d.outcome)
	}
}

// Others that want to know before a call starts are asked first.
func TestListenersDoNotReplaceOneAnother(t *testing.T) {
	d := &diary{}
	inner := d.answers(stream("x"), nil)
	both := invoke.Listen([]invoke.CallListener{d.listener("outer")}, invoke.ListenOptions{})(
		invoke.Listen([]invoke.CallListener{d.listener("inner")}, invoke.ListenOptions{})(inner))
	response, err := both.Invoke(t.Context(), newCall())
	if err != nil {
		t.Fatal(err)
	}
	io.ReadAll(response.Body)
	if got := strings.Join(d.lines, ","); got != "held,before outer,before inner,sent,after inner,after outer" {
		t.Error(got)
	}
}

// Middleware may hand on a call again that was not placed.
func TestListenersHearOnceOfACallThatIsTriedAgain(t *testing.T) {
	d := &diary{}
	next := d.answers(invoke.HoldBody(nil), nil)
	tries := 0
	invoker := invoke.Listen([]invoke.CallListener{d.listener("1")}, invoke.ListenOptions{})(
		invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			if tries++; tries < 3 {
				return nil, invoke.ErrNotPlaced
			}
			return next.Invoke(ctx, call)
		}))
	call := newCall()
	for range 3 {
		if _, err := invoker.Invoke(t.Context(), call); err != nil && !errors.Is(err, invoke.ErrNotPlaced) {
			t.Error(err)
		}
	}
	if got := strings.Join(d.lines, ","); got != "held,before 1,sent,after 1" {
		t.Error(got)
	}
}
