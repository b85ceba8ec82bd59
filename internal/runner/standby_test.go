package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/model"
)

// shelf is a small set of definitions, in pages of two.
type shelf struct {
	mu      sync.Mutex
	apps    []*model.App
	fns     []*model.Fn
	broken  bool
	panics  bool
	changed int // revision, in milliseconds
}

var errShelf = errors.New("the database is gone")

func (s *shelf) set(id, appID string, minimum int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed++
	fn := &model.Fn{
		ID: id, AppID: appID, Name: id, Image: "image", Memory: 32, Timeout: 5, IdleTimeout: 30,
		Annotations: model.Annotations{model.AnnotationMinInstances: fmt.Append(nil, minimum)},
		UpdatedAt:   model.Timestamp{Time: time.UnixMilli(int64(s.changed))},
	}
	s.fns = append(slices.DeleteFunc(s.fns, func(f *model.Fn) bool { return f.ID == id }), fn)
}

func (s *shelf) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fns = slices.DeleteFunc(s.fns, func(f *model.Fn) bool { return f.ID == id })
}

func (s *shelf) AppByID(_ context.Context, id string) (*model.App, error) {
	return find(s, s.apps, model.ErrAppNotFound, func(a *model.App) bool { return a.ID == id })
}

func (s *shelf) FnByID(_ context.Context, id string) (*model.Fn, error) {
	return find(s, s.fns, model.ErrFnNotFound, func(f *model.Fn) bool { return f.ID == id })
}

func find[T any](s *shelf, items []*T, notFound error, is func(*T) bool) (*T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return nil, errShelf
	}
	if i := slices.IndexFunc(items, is); i >= 0 {
		return items[i], nil
	}
	return nil, notFound
}

func (s *shelf) ListApps(_ context.Context, filter model.AppFilter) (model.Page[*model.App], error) {
	s.mu.Lock()
	panics := s.panics
	s.panics = false
	s.mu.Unlock()
	if panics {
		panic("in the shelf")
	}
	return pageOf(s, s.apps, filter.Page.Cursor)
}

func (s *shelf) ListFns(_ context.Context, filter model.FnFilter) (model.Page[*model.Fn], error) {
	s.mu.Lock()
	var own []*model.Fn
	for _, fn := range s.fns {
		if fn.AppID == filter.AppID {
			own = append(own, fn)
		}
	}
	s.mu.Unlock()
	return pageOf(s, own, filter.Page.Cursor)
}

func pageOf[T any](s *shelf, items []*T, cursor string) (model.Page[*T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return model.Page[*T]{}, errShelf
	}
	from := len(cursor) // the cursor is a tally
	to := min(from+2, len(items))
	page := model.Page[*T]{Items: items[from:to]}
	if to < len(items) {
		page.NextCursor = strings.Repeat("|", to)
	}
	return page, nil
}

// awaitInstances waits until so many containers live.
func (b *bench) awaitInstances(t *testing.T, want int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		stats := b.pool.Stats()
		if b.engine.Live() == want && stats.Idle == want && stats.Launching == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d containers, want %d: %+v", b.engine.Live(), want, stats)
		}
	}
}

func newStandby(t *testing.T, b *bench, s *shelf) *Standby {
	standby := NewStandby(b.Runner, s)
	standby.Start()
	t.Cleanup(standby.Close)
	return standby
}

func TestMinimumInstancesStartWithTheNode(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	s := &shelf{apps: []*model.App{{ID: "a"}, {ID: "b"}, {ID: "c"}}}
	s.set("none", "a", 0)
	s.set("one", "c", 1)
	s.set("another", "c", 1)
	s.set("two", "c", 2)
	newStandby(t, b, s)
	b.awaitInstances(t, 4)
}

func TestMinimumInstancesFollowTheDefinitions(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	s := &shelf{apps: []*model.App{{ID: "a"}}}
	standby := newStandby(t, b, s)
	s.set("fn", "a", 1)
	standby.FnChanged("fn")
	b.awaitInstances(t, 1)
	s.set("fn", "a", 3)
	standby.FnChanged("fn")
	b.awaitInstances(t, 3)
	s.set("fn", "a", 1)
	s.set("new", "a", 1)
	standby.AppChanged("a")
	b.awaitInstances(t, 2)
	s.remove("fn")
	standby.FnRemoved("fn")
	b.awaitInstances(t, 1)
	standby.FnChanged("unknown") // was deleted just now
	s.mu.Lock()
	s.apps = nil
	s.mu.Unlock()
	standby.AppRemoved("a")
	b.awaitInstances(t, 0)
}

func TestDefinitionThatIsRefusedEndsTheInstancesOfTheFormerOne(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	s := &shelf{apps: []*model.App{{ID: "a"}}}
	standby := newStandby(t, b, s)
	s.set("fn", "a", 1)
	standby.FnChanged("fn")
	b.awaitInstances(t, 1)
	s.set("fn", "a", 1)
	s.mu.Lock()
	s.fns[0].Memory = 1024 // more than the node has
	s.mu.Unlock()
	standby.FnChanged("fn")
	b.awaitInstances(t, 0)
	s.set("fn", "a", 1)
	standby.FnChanged("fn")
	b.awaitInstances(t, 1)
}

func TestDefaultMinimumHoldsForFunctionsThatSayNothing(t *testing.T) {
	b := newBench(t, fake.Echo, func(o *Options) { o.Scale.MinInstances = 1 })
	s := &shelf{apps: []*model.App{{ID: "a"}}}
	s.set("silent", "a", 0)
	s.fns[0].Annotations = nil
	s.set("none", "a", 0)
	newStandby(t, b, s)
	b.awaitInstances(t, 1)
}

func TestDefinitionsThatCannotBeReadAreReadLater(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	s := &shelf{apps: []*model.App{{ID: "a"}}, broken: true}
	s.set("fn", "a", 1)
	standby := NewStandby(b.Runner, s)
	standby.retry = 20 * time.Millisecond
	standby.Start()
	t.Cleanup(standby.Close)
	time.Sleep(50 * time.Millisecond)
	b.awaitInstances(t, 0)
	s.mu.Lock()
	s.broken = false
	s.mu.Unlock()
	b.awaitInstances(t, 1)
}

func TestPanicOfDefinitionsIsAFailureToReadThem(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	s := &shelf{apps: []*model.App{{ID: "a"}}, panics: true}
	s.set("fn", "a", 1)
	standby := NewStandby(b.Runner, s)
	standby.retry = 20 * time.Millisecond
	standby.Start()
	t.Cleanup(standby.Close)
	b.awaitInstances(t, 1)
}

// TestFunctionThatIsDeletedWhileItIsLookedAtKeepsNothing deletes a function
// after its definition was read and before the pool is told of it.
func TestFunctionThatIsDeletedWhileItIsLookedAtKeepsNothing(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	s := &shelf{apps: []*model.App{{ID: "a"}}}
	s.set("fn", "a", 1)
	standby := newStandby(t, b, s)
	b.awaitInstances(t, 1)
	app, fn := s.apps[0], s.fns[0]
	s.remove("fn")
	b.pool.Retire("fn") // the first half of FnRemoved
	standby.keep(app, fn)
	standby.FnRemoved("fn")
	b.awaitInstances(t, 0)
}
