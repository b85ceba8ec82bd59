package system

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Messages that clients match on.
const (
	initTimedOut = "Container initialization timed out, please ensure you are using the latest fdk and check the logs"
	bodyTooLarge = "function response body too large"
	noResponse   = "error receiving function response"
	timedOut     = "Timed out"
	serverBusy   = "Timed out - server too busy"
)

// bodyLimit is what bodies may have in both directions, in bytes.
const bodyLimit = 6 << 20

// TestCallsThroughALoadBalancer does through an API node, a load balancer and three
// runners what a node that does everything does by itself.
func TestCallsThroughALoadBalancer(t *testing.T) {
	limit := fmt.Sprint(bodyLimit)
	needRoot(t)
	// Calls travel as they should on a network: by mutual TLS.
	c := startCluster(t, newAuthority(t).secured(plan{
		runners: 3,
		settings: map[string]string{
			"FN_MAX_REQUEST_SIZE": limit, "FN_MAX_RESPONSE_SIZE": limit,
		},
		runner: map[string]string{"FN_HOT_START_TIMEOUT_MSECS": "2000"},
	}))
	c.try("a client without a certificate is not served", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if got, err := ask(ctx, protocol(t, c.runners[0])); err == nil {
			t.Errorf("got %v", got)
		}
	})
	plain := c.fn(object{"config": object{"FROM_FN": "f"}})
	trigger := c.trigger(plain, "/plain")
	ways := map[string]func(t *testing.T, body string, header map[string]string) answer{
		"direct": func(t *testing.T, body string, header map[string]string) answer {
			return c.web.send(t, "POST", c.lb.url("/invoke/"+plain), body, header)
		},
		"trigger": func(t *testing.T, body string, header map[string]string) answer {
			return c.web.send(t, "POST", c.lb.url(trigger), body, header)
		},
	}
	for name, call := range ways {
		c.try(name, func(t *testing.T) { testCalls(t, call) })
	}
	c.try("the function sees who it is", func(t *testing.T) {
		got := c.invoke(plain, `{"echoContent":"hello"}`, map[string]string{"X-Own": "1"})
		s := got.seen(t)
		for name, want := range map[string]string{
			"FROM_FN": "f", "FN_FN_ID": plain, "FN_APP_ID": c.appID, "FN_TYPE": "sync", "FN_MEMORY": fmt.Sprint(fnMemoryMiB),
			"FN_FORMAT": "http-stream", "FN_LISTENER": "unix:/tmp/iofs/lsnr.sock",
		} {
			if s.Config[name] != want {
				t.Errorf("%s is %q, want %q", name, s.Config[name], want)
			}
		}
		if id := got.header.Get("Fn-Call-Id"); len(id) != 26 || s.Header.Get("Fn-Call-Id") != id {
			t.Errorf("call ID %q, the function got %q", id, s.Header.Get("Fn-Call-Id"))
		}
		if s.Header.Get("X-Own") != "1" || s.Request["echoContent"] != "hello" {
			t.Errorf("the function got %v, %v", s.Header, s.Request)
		}
	})
	c.try("a trigger's framing", func(t *testing.T) {
		got := c.web.send(t, "PUT", c.lb.url(trigger+"?q=1"), `{"responseCode":202,"returnHeaders":{"X-Made":["a"]}}`, map[string]string{"X-Own": "1"})
		if got.status != 202 || got.header.Get("X-Made") != "a" {
			t.Errorf("got %d %v", got.status, got.header)
		}
		got.status = 200
		if s := got.seen(t); s.Header.Get("X-Own") != "1" {
			t.Errorf("the function got %v", s.Header)
		}
	})
	c.try("a detached call is accepted before it ends", func(t *testing.T) {
		const sleeps = 5 * time.Second
		got := c.invoke(plain, fmt.Sprintf(`{"sleepTime":%d}`, sleeps.Milliseconds()), map[string]string{"Fn-Invoke-Type": "detached"})
		if got.status != 202 || got.body != "" || got.took >= sleeps {
			t.Errorf("got %d %q after %v", got.status, got.body, got.took)
		}
	})
	c.try("ten detached calls at a time", func(t *testing.T) {
		var begun []<-chan outcome
		for range 10 {
			begun = append(begun, c.begin(plain, "", with(mode("count", "Delay-Ms", "100"), map[string]string{"Fn-Invoke-Type": "detached"})))
		}
		for _, done := range begun {
			if got := <-done; got.err != nil || got.status != 202 || got.body != "" {
				t.Errorf("got %v", got)
			}
		}
	})
	c.try("a function that does not come up", func(t *testing.T) {
		c.invoke(c.fn(object{"config": object{"ENABLE_INIT_DELAY_MSEC": "10000"}}), "", nil).wantError(t, 504, initTimedOut)
	})
	c.try("a function that crashes", func(t *testing.T) {
		c.invoke(plain, `{"isCrash":true}`, nil).wantError(t, 502, noResponse)
		c.wantNext(plain)
	})
	c.try("a function that takes too long", func(t *testing.T) {
		c.invoke(c.fn(object{"timeout": 1}), `{"sleepTime":20000}`, nil).wantError(t, 504, timedOut)
		c.wantNext(plain)
	})
	c.try("an answer before the end of the body", func(*testing.T) {
		// The runner protocol does not allow it; but the function may have read all of it when
		// the runner sees its answer.
		if got := c.invoke(plain, strings.Repeat("x", bodyLimit), mode("early")); got.status != 200 || got.body != "early" {
			got.wantError(t, 502, "function invoked write before receiving entire request")
		}
		c.wantNext(plain)
	})
	c.try("what there is not", func(t *testing.T) {
		c.invoke("absent", "", nil).wantError(t, 404, "Fn not found")
		c.web.send(t, "GET", c.lb.url("/t/app/absent"), "", nil).wantError(t, 404, "Trigger not found")
		c.web.send(t, "GET", c.lb.url("/t/absent/plain"), "", nil).wantError(t, 404, "App not found")
	})
	c.try("a function that is too large for all runners", func(t *testing.T) {
		if got := c.invoke(c.fn(object{"memory": 4096}), "", nil); got.status != 400 {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
	c.try("nodes serve what is theirs", func(t *testing.T) {
		for path, has := range map[string]*node{"/v2/apps": c.api, "/t/app/plain": c.lb} {
			for _, n := range append([]*node{c.api, c.lb}, c.runners...) {
				got := c.web.send(t, "GET", n.url(path), "", nil)
				if served := got.status == 200; served != (n == has) {
					t.Errorf("%s of %s: %d %s", path, n.name, got.status, got.body)
				}
			}
		}
	})
	c.try("all runners had calls", func(t *testing.T) {
		for i, count := range c.calls() {
			if count == 0 {
				t.Errorf("runner %d had none", i)
			}
		}
	})
}

// testCalls is for calls by ID and through a trigger.
func testCalls(t *testing.T, call func(t *testing.T, body string, header map[string]string) answer) {
	t.Run("a large answer", func(t *testing.T) {
		got := call(t, `{"echoContent":"`+strings.Repeat("x", 1<<20)+`","trailerRepeat":4}`, nil)
		if s := got.seen(t); len(s.Trailer) != 4 || len(s.Trailer[3]) != 1<<20 || len(got.body) < 5<<20 {
			t.Errorf("%d bytes, %d pieces", len(got.body), len(s.Trailer))
		}
	})
	t.Run("an answer that is too large", func(t *testing.T) {
		call(t, "", mode("bytes", "Size", fmt.Sprint(bodyLimit+1))).wantError(t, 502, bodyTooLarge)
		call(t, "", mode("bytes", "Size", fmt.Sprint(bodyLimit+1), "Chunked", "1")).wantError(t, 502, bodyTooLarge)
	})
	t.Run("an answer of just the limit", func(t *testing.T) {
		if got := call(t, "", mode("bytes", "Size", fmt.Sprint(bodyLimit))); got.status != 200 || len(got.body) != bodyLimit {
			t.Errorf("got %d, %d bytes", got.status, len(got.body))
		}
	})
	t.Run("a body that is too large", func(t *testing.T) {
		call(t, strings.Repeat("x", bodyLimit+1), mode("count")).wantError(t, 413,
			fmt.Sprintf("Content-Length too large for this server, %d > max %d", bodyLimit+1, bodyLimit))
	})
	t.Run("a body of just the limit", func(t *testing.T) {
		if got := call(t, strings.Repeat("x", bodyLimit), mode("count")); got.status != 200 || got.body != fmt.Sprint(bodyLimit) {
			t.Errorf("got %d %.100q", got.status, got.body)
		}
	})
	t.Run("an empty answer", func(t *testing.T) {
		if got := call(t, `{"isEmptyBody":true}`, nil); got.status != 200 || got.body != "" {
			t.Errorf("got %d %q", got.status, got.body)
		}
	})
	t.Run("ten calls at a time", func(t *testing.T) {
		results := make(chan answer, 10)
		for i := range cap(results) {
			go func() { results <- call(t, fmt.Sprint(i), mode("reply", "Delay-Ms", "200")) }()
		}
		seen := map[string]bool{}
		for range cap(results) {
			if got := <-results; got.status == 200 {
				seen[got.body] = true
			} else {
				t.Errorf("got %d %s", got.status, got.body)
			}
		}
		if len(seen) != cap(results) {
			t.Errorf("answers %v", seen)
		}
	})
}
