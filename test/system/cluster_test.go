package system

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// cluster is an API node, a load balancer, and runners.
type cluster struct {
	t       *testing.T
	api, lb *node
	runners []*node
	web     *web // a client of all of them
	appID   string
	names   int
}

// plan says how a cluster differs from one of two runners on loopback.
type plan struct {
	runners  int               // 0: two
	settings map[string]string // of all nodes
	api, lb  map[string]string
	runner   map[string]string
	hub      *hub // each node is a host of it; nil: all are on loopback
}

// The runners of a test are so large, and the functions of which they hold four.
const (
	runnerBytes  = 256 << 20
	fnMemoryMiB  = 64
	runnerFits   = runnerBytes / (fnMemoryMiB << 20)
	runnerSubnet = "10.84.%d.0/22" // of the n-th runner, n times four
)

// networks are numbered through all tests, which run at the same time.
var networks atomic.Int64

// startCluster starts the nodes of a plan, which end with the test.
func startCluster(t *testing.T, p plan) *cluster {
	t.Helper()
	needRoot(t)
	c := prepare(t, p)
	c.api.start()
	for _, r := range c.runners {
		r.launch()
	}
	for _, r := range c.runners {
		r.awaitServing()
	}
	c.lb.start()
	c.appID = c.create("/v2/apps", object{"name": "app"})
	return c
}

// prepare makes the nodes and starts none.
func prepare(t *testing.T, p plan) *cluster {
	t.Helper()
	count := p.runners
	if count == 0 {
		count = 2
	}
	from := loopback
	if p.hub != nil {
		from = p.hub.self
	}
	c := &cluster{t: t, web: newWeb(t, from)}
	c.api = c.newNode(p, "api", map[string]string{"FN_NODE_TYPE": "api"}, p.api)
	c.api.settings["FN_DB_URL"] = "sqlite3://" + filepath.Join(c.api.dir, "fn.db")
	var addresses []string
	for i := range count {
		sockets := shortDir(t) // it is removed after the node has ended
		number := networks.Add(1) % 64
		r := c.newNode(p, fmt.Sprintf("runner%d", i), map[string]string{
			"FN_NODE_TYPE": "pure-runner", "FN_DRIVER": "native", "FN_SANDBOX_MIN": "1", "FN_SANDBOX_READY_MAX": "1",
			"FN_SANDBOX_BRIDGE": fmt.Sprintf("sys%d-%d", os.Getpid()%100000, number), "FN_SANDBOX_SUBNET": fmt.Sprintf(runnerSubnet, 4*number),
			"FN_DOCKER_LOAD_FILE": testFn.File, "FN_MAX_TOTAL_MEMORY_BYTES": strconv.Itoa(runnerBytes),
			"FN_POOL_CPU_PRESSURE":          "100",  // pools are filled also while other tests run
			"FN_REGISTRY_LISTEN":            "off",  // there is one default port
			"FN_ENABLE_NB_RESOURCE_TRACKER": "true", // what does not fit is placed elsewhere
		}, p.runner)
		r.settings["FN_GRPC_PORT"] = freePort(t, r.host)
		r.settings["FN_IOFS_PATH"] = sockets
		addresses = append(addresses, r.address())
		c.runners = append(c.runners, r)
	}
	c.lb = c.newNode(p, "lb", map[string]string{
		"FN_NODE_TYPE": "lb", "FN_RUNNER_API_URL": c.api.url(""), "FN_RUNNER_ADDRESSES": strings.Join(addresses, ","),
		"FN_RUNNER_MAX_BACKOFF": "2s", // runners that were ended come back soon
	}, p.lb)
	return c
}

func (c *cluster) newNode(p plan, name string, layers ...map[string]string) *node {
	c.t.Helper()
	at := loopback
	if p.hub != nil {
		at = p.hub.host()
	}
	n := &node{t: c.t, name: name, host: at, port: freePort(c.t, at), dir: filepath.Join(c.t.TempDir(), name), settings: map[string]string{}, web: c.web}
	if err := os.Mkdir(n.dir, 0o755); err != nil { //nolint:gosec // users of sandboxes look into it
		c.t.Fatal(err)
	}
	for _, layer := range append(layers, p.settings) {
		maps.Copy(n.settings, layer)
	}
	c.t.Cleanup(n.cleanUp)
	return n
}

// try runs a part of a test with the cluster, whose nodes all run afterwards, whatever was
// done to them.
func (c *cluster) try(name string, part func(t *testing.T)) {
	whole := c.t
	whole.Run(name, func(t *testing.T) {
		c.use(t)
		defer c.use(whole)
		defer c.restore()
		part(t)
	})
}

func (c *cluster) nodes() []*node { return append([]*node{c.api, c.lb}, c.runners...) }

func (c *cluster) use(t *testing.T) {
	c.t = t
	for _, n := range c.nodes() {
		n.t = t
	}
}

func (c *cluster) restore() {
	for _, n := range c.nodes() {
		if n.process == nil || !n.process.running() {
			n.start()
		} else if c.t.Failed() {
			n.thaw()
		}
	}
}

// with adds settings to those of a plan.
func with(settings, more map[string]string) map[string]string {
	all := maps.Clone(more)
	maps.Copy(all, settings)
	return all
}

// ports are numbered below those that the kernel gives to outgoing connections, so that
// a node which is started again finds its own free.
var ports atomic.Int64

// freePort returns a port that nobody has.
func freePort(t *testing.T, at host) (port string) {
	t.Helper()
	for range 1000 {
		port = strconv.FormatInt(20000+(int64(os.Getpid())*100+ports.Add(1))%10000, 10)
		err := at.in(func() error {
			listener, err := net.Listen("tcp4", net.JoinHostPort(at.address, port))
			if err != nil {
				return err
			}
			return listener.Close()
		})
		if err == nil {
			return port
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// shortDir is a directory for sockets, whose names are short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sys")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// create makes a definition on the API node and returns its ID.
func (c *cluster) create(path string, definition object) string {
	c.t.Helper()
	raw, err := json.Marshal(definition)
	if err != nil {
		c.t.Fatal(err)
	}
	got := c.web.send(c.t, "POST", c.api.url(path), string(raw), nil)
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(got.body), &made); err != nil || got.status != 200 {
		c.t.Fatalf("POST %s: %d %s", path, got.status, got.body)
	}
	return made.ID
}

// fn makes a function, with what differs from a small plain one.
func (c *cluster) fn(change object) (id string) {
	c.t.Helper()
	c.names++
	definition := object{"name": fmt.Sprintf("fn%d", c.names), "app_id": c.appID, "image": testFn.Ref, "memory": fnMemoryMiB}
	maps.Copy(definition, change)
	return c.create("/v2/fns", definition)
}

// trigger makes a trigger and returns its path.
func (c *cluster) trigger(fnID, source string) string {
	c.t.Helper()
	c.names++
	c.create("/v2/triggers", object{"name": fmt.Sprintf("trigger%d", c.names), "app_id": c.appID, "fn_id": fnID, "type": "http", "source": source})
	return "/t/app" + source
}

// invoke calls a function through the load balancer.
func (c *cluster) invoke(fnID, body string, header map[string]string) answer {
	c.t.Helper()
	return c.web.send(c.t, "POST", c.lb.url("/invoke/"+fnID), body, header)
}

// outcome is an answer, or why there is none.
type outcome struct {
	answer
	err error
}

func (o outcome) String() string {
	if o.err != nil {
		return fmt.Sprintf("%v after %v", o.err, o.took)
	}
	return fmt.Sprintf("%d %.300q after %v", o.status, o.body, o.took)
}

func (o outcome) ok() bool { return o.err == nil && o.status == 200 }

// begin calls a function and does not wait.
func (c *cluster) begin(fnID, body string, header map[string]string) <-chan outcome {
	request := c.web.request(c.t, "POST", c.lb.url("/invoke/"+fnID), body, header)
	done := make(chan outcome, 1)
	go func() {
		got, err := c.web.do(request)
		done <- outcome{got, err}
	}()
	return done
}

// wantNext expects that a call works, and by the way that its answer is its own.
func (c *cluster) wantNext(fnID string) {
	c.t.Helper()
	c.names++
	body := fmt.Sprintf("call %d", c.names)
	if got := c.invoke(fnID, body, mode("reply")); got.status != 200 || got.body != body {
		c.t.Errorf("sent %q, got %d %q after %v\n%s", body, got.status, got.body, got.took, c.lb.process.log.Tail())
	}
}

// calls is how many calls each runner has accepted since its start.
func (c *cluster) calls() (each []int) {
	c.t.Helper()
	for _, r := range c.runners {
		each = append(each, r.calls())
	}
	return each
}

// awaitRunning waits until all runners together execute so many calls.
func (c *cluster) awaitRunning(want int) {
	c.t.Helper()
	got := 0
	eventually(c.t, 20*time.Second, func() bool {
		got = 0
		for _, r := range c.runners {
			got += r.running()
		}
		return got == want
	}, func() string { return fmt.Sprintf("runners execute %d calls, not %d", got, want) })
}

// awaitCalls waits until a runner gets calls, of functions that no other runner has an
// instance of. Those go to runners that know them, while these have room.
func (c *cluster) awaitCalls(n *node) {
	c.t.Helper()
	before := n.calls()
	eventually(c.t, 30*time.Second, func() bool {
		c.wantNext(c.fn(object{"idle_timeout": 1}))
		return n.calls() > before
	}, func() string { return n.name + " gets no calls\n" + n.process.log.Tail() })
}

// hold begins calls until each runner executes some, which go on for a while, and returns
// what will become of them. Runners execute no others meanwhile.
func (c *cluster) hold(fnID, milliseconds string) (held []<-chan outcome, each []int) {
	c.t.Helper()
	for range len(c.runners) * runnerFits {
		held = append(held, c.begin(fnID, "", mode("count", "Delay-Ms", milliseconds)))
		spread := true
		eventually(c.t, 10*time.Second, func() bool {
			each, spread = nil, true
			sum := 0
			for _, r := range c.runners {
				each = append(each, r.running())
				sum += each[len(each)-1]
				spread = spread && each[len(each)-1] > 0
			}
			return sum == len(held)
		}, func() string {
			var ended []outcome
			for _, done := range held {
				select {
				case got := <-done:
					ended = append(ended, got)
				default:
				}
			}
			return fmt.Sprintf("%d calls were begun, and runners execute %v; ended: %v\n%s", len(held), each, ended, c.lb.process.log.Tail())
		})
		if spread {
			return held, each
		}
	}
	c.t.Fatalf("of %d calls, runners execute %v: they are not spread", len(held), each)
	return nil, nil
}
