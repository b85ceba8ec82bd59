package node_test

import (
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/node"
)

// TestQueueHasTheBoundsThatAreSet has a node with room for one instance, which is
// busy. How the pool keeps bounds is its own tests' business.
func TestQueueHasTheBoundsThatAreSet(t *testing.T) {
	for name, test := range map[string]struct {
		settings []string
		waiting  int // calls that are in line before the one that is refused
	}{
		"time":   {[]string{"FN_QUEUE_TIMEOUT=50ms"}, 0},
		"length": {[]string{"FN_QUEUE_SIZE=1"}, 1},
		"none":   {[]string{"FN_ENABLE_NB_RESOURCE_TRACKER=true"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			entered, goOn := make(chan struct{}, 10), make(chan struct{})
			engine := fake.New(fake.Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				entered <- struct{}{}
				select {
				case <-goOn:
				case <-r.Context().Done():
				}
			})})
			e := run(t, node.Options{Driver: engine, Environ: append(test.settings, "FN_MAX_TOTAL_MEMORY_BYTES=134217728")})
			app := e.create("/v2/apps", `{"name":"app"}`)
			fn := e.create("/v2/fns", `{"name":"fn","app_id":"`+app+`","image":"any"}`)
			statuses := make(chan int, 1+test.waiting)
			call := func() {
				status, _ := e.send("POST", "/invoke/"+fn, "x")
				statuses <- status
			}
			go call()
			<-entered
			for i := range test.waiting {
				go call()
				e.awaitInLine(i + 1)
			}
			status, body := e.send("POST", "/invoke/"+fn, "x")
			if status != http.StatusServiceUnavailable {
				t.Errorf("got %d %s", status, body)
			}
			close(goOn)
			for range 1 + test.waiting {
				if status := <-statuses; status != http.StatusOK {
					t.Errorf("a call that was in time got %d", status)
				}
			}
			if err := e.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// awaitInLine waits until so many callers stand in line.
func (e *embedded) awaitInLine(count int) {
	e.t.Helper()
	line := regexp.MustCompile(fmt.Sprintf(`(?m)^tine_queue_callers\{.*\} %d$`, count))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		_, metrics := e.send("GET", "/metrics", "")
		if line.MatchString(metrics) {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("there are not %d callers in line", count)
		}
	}
}

func TestStopIsBoundedOnAnEngineThatHangs(t *testing.T) {
	engine := fake.New(fake.Options{CallTimeout: 200 * time.Millisecond})
	e := run(t, node.Options{Driver: engine, Environ: []string{"FN_SHUTDOWN_TIMEOUT=200ms"}})
	app := e.create("/v2/apps", `{"name":"app"}`)
	fn := e.create("/v2/fns", `{"name":"fn","app_id":"`+app+`","image":"any"}`)
	if status, body := e.send("POST", "/invoke/"+fn, "x"); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	engine.Hang(fake.OpEnsureImage, fake.OpCreate, fake.OpStart, fake.OpWait, fake.OpFreeze, fake.OpThaw, fake.OpStop, fake.OpRemove)
	stopped := make(chan error, 1)
	go func() { stopped <- e.stop() }()
	select {
	case <-stopped:
	case <-time.After(time.Minute):
		t.Fatal("it waits for the engine")
	}
}
