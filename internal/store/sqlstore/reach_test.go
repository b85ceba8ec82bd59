package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// unreliable is a database that cannot be reached for a number of attempts.
type unreliable struct {
	failures int
	err      error
	attempts int
}

func (u *unreliable) Connect(context.Context) (driver.Conn, error) {
	u.attempts++
	if u.attempts <= u.failures {
		return nil, u.err
	}
	return reached{}, nil
}

func (u *unreliable) Driver() driver.Driver { return nil }

// reached is a connection that is good for a ping only.
type reached struct{ driver.Conn }

func (reached) Ping(context.Context) error { return nil }
func (reached) Close() error               { return nil }

var (
	errBusy     = errors.New("busy")
	errHopeless = errors.New("hopeless")
)

func TestDatabaseIsTriedAgainOncePerSecond(t *testing.T) {
	for _, test := range []struct {
		name     string
		database unreliable
		retries  int
		attempts int
		took     time.Duration
		fails    bool
	}{
		{"at once", unreliable{}, 10, 1, 0, false},
		{"in the end", unreliable{failures: 9, err: errors.New("away")}, 10, 10, 9 * time.Second, false},
		{"never", unreliable{failures: 99, err: errors.New("away")}, 10, 10, 9 * time.Second, true},
		{"no retries", unreliable{failures: 1, err: errors.New("away")}, 0, 1, 0, true},
		{"hopeless", unreliable{failures: 1, err: errHopeless}, 10, 1, 0, true},
		{"busy", unreliable{failures: 50, err: errBusy}, 0, 51, 500 * time.Millisecond, false},
		{"busy for long", unreliable{failures: 1 << 30, err: errBusy}, 0, maxBusyAttempts + 1, busyTimeout, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Store{
					log: slog.New(slog.DiscardHandler), write: sql.OpenDB(&test.database),
					dialect: dialect{
						isBusy:     func(err error) bool { return errors.Is(err, errBusy) },
						isHopeless: func(err error) bool { return errors.Is(err, errHopeless) },
					},
				}
				defer s.write.Close()
				begin := time.Now()
				err := s.reach(t.Context(), test.retries)
				if (err != nil) != test.fails || err != nil && !errors.Is(err, test.database.err) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begin); took != test.took || test.database.attempts != test.attempts {
					t.Errorf("took %v and %d attempts, want %v and %d", took, test.database.attempts, test.took, test.attempts)
				}
			})
		})
	}
}

func TestCancelledStartStopsTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Store{
			log: slog.New(slog.DiscardHandler), write: sql.OpenDB(&unreliable{failures: 99, err: errors.New("away")}),
			dialect: sqlite,
		}
		defer s.write.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if err := s.reach(ctx, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took != 2500*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}
