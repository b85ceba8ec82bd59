package imageaccess

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distribution/reference"

	"github.com/tinefn/tine/driver"
)

// scripted is a registry whose answers a test decides.
type scripted struct {
	digest func(who Puller) (string, error)
	pull   func(ctx context.Context, who Puller) error
}

func (s *scripted) Digest(_ context.Context, _ reference.Named, who Puller) (string, error) {
	return s.digest(who)
}

func (s *scripted) Pull(ctx context.Context, _ string, _ reference.Named, who Puller, _ *slog.Logger) error {
	return s.pull(ctx, who)
}

// answer is an error that says itself what it means.
type answer Refusal

func (a answer) Error() string { return a.Message }

func (s *scripted) Refusal(err error) Refusal {
	known, _ := errors.AsType[answer](err)
	return Refusal(known)
}

func TestPausesBetweenPullsDoubleUpToABound(t *testing.T) {
	for attempt, want := range map[int]time.Duration{0: 250 * time.Millisecond, 1: 500 * time.Millisecond, 4: 4 * time.Second, 5: 5 * time.Second, 1000: 5 * time.Second} {
		if got := pullPause(attempt); got != want {
			t.Errorf("after attempt %d: %v", attempt, got)
		}
	}
}

func TestPullsAreTriedAgainWhileThatIsWorthwhile(t *testing.T) {
	busy := answer{Status: http.StatusTooManyRequests, Message: "busy", Passing: true}
	for _, tt := range []struct {
		name     string
		answers  []error // the last one is repeated
		retries  int
		attempts int
		want     error // nil: the image came
		status   int   // of a *driver.PullError
	}{
		{"at once", []error{nil}, 2, 1, nil, 0},
		{"second time", []error{busy, nil}, 2, 2, nil, 0},
		{"never", []error{busy}, 2, 3, busy, http.StatusTooManyRequests},
		{"not at all", []error{busy}, 0, 1, busy, http.StatusTooManyRequests},
		{"refused", []error{answer{Status: http.StatusForbidden, Message: "no"}}, 2, 1, busy, http.StatusForbidden},
		{"engine lost", []error{answer{Lost: true, Passing: true}}, 2, 1, driver.ErrUnavailable, 0},
		{"until the deadline", []error{busy}, 1000, 0, busy, http.StatusTooManyRequests},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts, retried := 0, 0
				a := open(t, Options{
					PullTimeout: time.Minute, PullRetries: tt.retries, Retried: func() { retried++ },
					Registry: &scripted{pull: func(context.Context, Puller) error {
						attempts++
						return tt.answers[min(attempts, len(tt.answers))-1]
					}},
				})
				began := time.Now()
				_, err := a.Pull(t.Context(), driver.ImageRequest{Name: "r.io/b"})
				refused, isRefusal := errors.AsType[*driver.PullError](err)
				switch {
				case tt.want == nil && err != nil, tt.want != nil && err == nil:
					t.Errorf("got %v", err)
				case tt.status != 0 && (!isRefusal || refused.Status != tt.status):
					t.Errorf("got %v, want status %d", err, tt.status)
				case errors.Is(tt.want, driver.ErrUnavailable) && !errors.Is(err, driver.ErrUnavailable):
					t.Errorf("got %v", err)
				}
				if tt.attempts != 0 && (attempts != tt.attempts || retried != attempts-1) {
					t.Errorf("%d attempts, %d told", attempts, retried)
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestPullEndsWithItsContextOrDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{PullTimeout: time.Minute, PullRetries: 5, Registry: &scripted{pull: func(ctx context.Context, _ Puller) error {
			<-ctx.Done()
			return answer{Message: "cut", Passing: true}
		}}})
		if _, err := a.Pull(t.Context(), driver.ImageRequest{Name: "r.io/b"}); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrPullTimeout) {
			t.Errorf("deadline: %v", err)
		}
		closed := errors.New("closed")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(closed) })
		if _, err := a.Pull(ctx, driver.ImageRequest{Name: "r.io/b"}); !errors.Is(err, closed) {
			t.Errorf("closed: %v", err)
		}
	})
}

func TestWorkOnEqualRequestsIsSharedAndOutlivesCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, Options{Registry: &scripted{}})
		var works atomic.Int64
		work := func() (driver.Image, error) {
			works.Add(1)
			time.Sleep(time.Minute)
			return driver.Image{ID: "1"}, nil
		}
		want := driver.ImageRequest{Name: "r.io/b", Tenant: "a"}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, err := a.Ensure(impatient, want, work); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one who leaves: %v", err)
			}
		})
		synctest.Wait()
		for range 3 {
			callers.Go(func() {
				if got, err := a.Ensure(t.Context(), want, work); err != nil || got.ID != "1" {
					t.Errorf("one who stays: %+v, %v", got, err)
				}
			})
		}
		callers.Wait()
		if works.Load() != 1 {
			t.Errorf("the work was done %d times", works.Load())
		}
		for i, other := range []driver.ImageRequest{
			{Name: "r.io/c", Tenant: "a"},
			{Name: "r.io/b", Tenant: "b"},
			{Name: "r.io/b", Tenant: "a", Token: "t"},
			{Name: "r.io/b", Tenant: "a", Refresh: true},
		} {
			callers.Go(func() { _, _ = a.Ensure(t.Context(), want, work) })
			callers.Go(func() { _, _ = a.Ensure(t.Context(), other, work) })
			callers.Wait()
			if works.Load() != int64(3+2*i) {
				t.Errorf("%#v shared the work", other)
			}
		}
	})
}

func TestYesOfARegistryIsBelievedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		questions := 0
		registry := &scripted{
			digest: func(Puller) (string, error) { questions++; return "sha256:1", nil },
			pull:   func(context.Context, Puller) error { return nil },
		}
		a := open(t, Options{TTL: time.Hour, Registry: registry})
		owner := driver.ImageRequest{Name: "r.io/b:1", Tenant: "a", Token: "t"}
		pulled, err := a.Pull(t.Context(), owner)
		if err != nil {
			t.Fatal(err)
		}
		if err := pulled.Confirm("sha256:9"); err != nil {
			t.Fatal(err)
		}
		there := NewImage("sha256:9", []string{"r.io/b:1"}, nil)
		for _, step := range []struct {
			wait time.Duration
			want int // questions so far
		}{{0, 0}, {time.Hour - 1, 0}, {1, 1}, {time.Minute, 1}, {time.Hour, 2}} {
			time.Sleep(step.wait)
			if err := a.Authorize(t.Context(), owner, there); err != nil || questions != step.want {
				t.Errorf("after %v more: %v, %d questions, want %d", step.wait, err, questions, step.want)
			}
		}
		registry.digest = func(Puller) (string, error) { return "", answer{Status: http.StatusUnauthorized, Message: "who"} }
		err = a.Authorize(t.Context(), driver.ImageRequest{Name: "r.io/b:1", Tenant: "b"}, there)
		if refused, ok := errors.AsType[*driver.PullError](err); !ok || refused.Status != http.StatusUnauthorized {
			t.Errorf("another app: %v", err)
		}
	})
}
