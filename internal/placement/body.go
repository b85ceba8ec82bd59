package placement

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/tinefn/tine/invoke"
)

// pieceBytes is how much of a body is read at once while it is kept.
const pieceBytes = 32 << 10

// errBodyAway is what a runner gets that goes on reading a body which it has
// closed, or which another runner has by now.
var errBodyAway = errors.New("the call is with another runner")

// supply gives each attempt at a call the request's body from its beginning. A
// body that is in memory, or none, is simply given again. Of any other, what is
// read is kept, up to a limit; when more was read, or a runner has answered, what
// was kept is dropped, and the attempt at hand reads on without a copy. Then no
// other attempt is possible.
//
// Only one attempt reads at a time. One that was refused may still wait for the
// client: what comes then is for the next, which is why pieces are read on a
// goroutine of their own.
type supply struct {
	held []byte        // the whole body, if from is nil; may be nil
	from io.ReadCloser // the client's
	max  int64         // bytes that are kept
	all  *budget       // of all calls together

	mu      sync.Mutex // guards the rest
	current *view
	kept    []byte
	counted int64         // bytes of kept that the budget has
	begun   bool          // something was asked of from
	sealed  bool          // nothing more is kept, and there is no other attempt
	limit   string        // the setting that it is for; "": a runner has answered, or the call is over
	closed  bool          // from is
	ended   error         // how from ended, behind what is kept
	changed chan struct{} // closed when the piece that is being read is there; nil: none is
}

// budget is how many bytes of bodies all calls together may keep.
type budget struct {
	max  int64
	used atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.max {
		b.used.Add(-n)
		return false
	}
	return true
}

// supplyOf returns the supply of a call's body.
func supplyOf(call *invoke.Call, max int64, all *budget) *supply {
	switch body := call.Body.(type) {
	case nil:
		return &supply{}
	case *invoke.HeldBody:
		return &supply{held: body.Bytes()}
	default:
		if body == http.NoBody {
			return &supply{}
		}
		return &supply{from: body, max: max, all: all}
	}
}

// open gives the next attempt its body. It fails if the body is not there any
// more.
func (s *supply) open() (io.ReadCloser, bool) {
	switch {
	case s.from == nil && s.held == nil:
		return http.NoBody, true
	case s.from == nil:
		return invoke.HoldBody(s.held), true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed {
		return nil, false
	}
	s.current = &view{supply: s, away: make(chan struct{})}
	return s.current, true
}

// again reports whether open would succeed, and which setting keeps it from that.
func (s *supply) again() (ok bool, limit string) {
	if s.from == nil {
		return true, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.sealed, s.limit
}

// seal says that there is no other attempt. The one at hand reads on.
func (s *supply) seal() {
	if s.from == nil {
		return
	}
	s.mu.Lock()
	s.sealed = true
	s.dropReadLocked()
	closing := s.current.isAway() && s.closeLocked()
	s.mu.Unlock()
	if closing {
		s.from.Close()
	}
}

// close ends the supply. What the client has not been asked for stays unread, as
// closing the body may cost it its connection.
func (s *supply) close() {
	if s.from == nil {
		return
	}
	s.mu.Lock()
	s.sealed = true
	s.dropLocked()
	closing := s.closeLocked()
	s.mu.Unlock()
	if closing {
		s.from.Close()
	}
}

// closeLocked reports whether the client's body is to be closed now.
func (s *supply) closeLocked() bool {
	if !s.begun || s.closed {
		return false
	}
	s.closed = true
	return true
}

// dropLocked forgets what was kept.
func (s *supply) dropLocked() {
	s.all.used.Add(-s.counted)
	s.kept, s.counted = nil, 0
}

// dropReadLocked forgets what was kept if nobody can read it any more: the attempt at
// hand, which is the last, has all of the body or needs no more. Its answer may take
// long.
func (s *supply) dropReadLocked() {
	v := s.current
	if s.sealed && (v.isAway() || s.ended != nil && v.read == len(s.kept)) {
		s.dropLocked()
		v.read = 0
	}
}

// readPiece reads one piece from the client.
func (s *supply) readPiece() {
	piece := make([]byte, pieceBytes)
	n, err := s.from.Read(piece)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		n = 0 // nobody is there to get it
	}
	switch {
	case n == 0 || s.sealed:
	case int64(len(s.kept)+n) > s.max:
		s.sealed, s.limit = true, "FN_LB_MAX_KEPT_BODY"
	case !s.all.take(int64(n)):
		s.sealed, s.limit = true, "FN_LB_MAX_KEPT_BODIES"
	default:
		s.counted += int64(n)
	}
	s.kept = append(s.kept, piece[:n]...)
	s.ended = err
	close(s.changed)
	s.changed = nil
}

// view is the body as one attempt sees it.
type view struct {
	supply *supply
	read   int           // of what is kept
	away   chan struct{} // closed when the attempt needs no more
	once   sync.Once
	direct bool // nothing is kept: it reads from the client
}

func (v *view) isAway() bool {
	select {
	case <-v.away:
		return true
	default:
		return false
	}
}

func (v *view) Read(p []byte) (int, error) {
	if v.direct {
		return v.supply.from.Read(p)
	}
	for {
		n, changed, err := v.next(p)
		switch {
		case v.direct:
			return v.supply.from.Read(p)
		case n > 0 || err != nil || len(p) == 0:
			return n, err
		}
		select {
		case <-changed:
		case <-v.away:
			return 0, errBodyAway
		}
	}
}

// next takes what is kept, or has a piece read and returns what to wait for.
func (v *view) next(p []byte) (int, <-chan struct{}, error) {
	s := v.supply
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case v.isAway() || v != s.current:
		return 0, nil, errBodyAway
	case v.read < len(s.kept):
		n := copy(p, s.kept[v.read:])
		v.read += n
		return n, nil, nil
	case s.ended != nil:
		s.dropReadLocked()
		return 0, nil, s.ended
	case s.changed != nil: // an attempt before this one has asked
	case s.sealed:
		s.dropLocked()
		s.begun = true
		v.read, v.direct = 0, true
	default:
		s.begun = true
		s.changed = make(chan struct{})
		go s.readPiece() // ends with the client's body, which close closes
	}
	return 0, s.changed, nil
}

// Close says that the attempt needs no more. Unless there may be another, that
// closes the client's body.
func (v *view) Close() error {
	v.once.Do(func() { close(v.away) })
	s := v.supply
	s.mu.Lock()
	closing := false
	if s.sealed && v == s.current {
		s.dropReadLocked()
		closing = s.closeLocked()
	}
	s.mu.Unlock()
	if closing {
		return s.from.Close()
	}
	return nil
}
