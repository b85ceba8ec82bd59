package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// The size of clusters under test: the native driver, on as many machines as there are
// runners, which here are one.
const (
	lbSleepMs    = 200 // of the function whose calls are spread over runners
	lbRunnerFits = 8   // instances, which is what bounds the calls of a runner in a second
	lbClients    = 40  // more than three runners can take
)

// lbNodes are an API node, a load balancer and its runners.
type lbNodes struct {
	api, lb *node
	runners []*node
}

// stop ends them in the order in which calls pass through them.
func (c *lbNodes) stop() (err error) {
	for _, n := range append([]*node{c.lb, c.api}, c.runners...) {
		if n != nil {
			err = errors.Join(err, n.stop())
		}
	}
	return err
}

// startRunners starts runners of which each has room for so many instances, and
// returns their addresses.
func (b *bench) startRunners(ctx context.Context, count, fits int) (runners []*node, addresses []string, err error) {
	for i := range count {
		port, err := freePort()
		if err != nil {
			return runners, nil, err
		}
		settings := nativeSettings(i + 1)
		maps.Copy(settings, map[string]string{
			"FN_NODE_TYPE": "pure-runner", "FN_GRPC_PORT": port, "FN_REGISTRY_LISTEN": "off", "FN_FREEZE_IDLE_MSECS": "-1",
			"FN_MAX_TOTAL_MEMORY_BYTES": fmt.Sprint(fits * functionMemoryMiB * mebibyte),
		})
		n, err := b.startNode(ctx, settings)
		if err != nil {
			return runners, nil, err
		}
		runners = append(runners, n)
		addresses = append(addresses, "127.0.0.1:"+port)
	}
	return runners, addresses, nil
}

func (b *bench) startAPI(ctx context.Context) (*node, error) {
	return b.startNode(ctx, map[string]string{"FN_NODE_TYPE": "api"})
}

func (b *bench) startLB(ctx context.Context, api *node, runners ...string) (*node, error) {
	return b.startNode(ctx, map[string]string{
		"FN_NODE_TYPE": "lb", "FN_RUNNER_API_URL": "http://" + api.address, "FN_RUNNER_ADDRESSES": strings.Join(runners, ","),
	})
}

// startCluster starts all of it.
func (b *bench) startCluster(ctx context.Context, runners, fits int) (c *lbNodes, err error) {
	c = &lbNodes{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if c.api, err = b.startAPI(ctx); err != nil {
		return c, err
	}
	var addresses []string
	if c.runners, addresses, err = b.startRunners(ctx, runners, fits); err != nil {
		return c, err
	}
	c.lb, err = b.startLB(ctx, c.api, addresses...)
	return c, err
}

// lbRow finds out what the way through a load balancer and a runner costs, against a node
// that does everything: the latency of one client, and what sixteen get through.
func lbRow(ctx context.Context, b *bench) (lines []line, err error) {
	settings := nativeSettings(0)
	maps.Copy(settings, map[string]string{"FN_REGISTRY_LISTEN": "off", "FN_FREEZE_IDLE_MSECS": "-1"})
	full, err := b.startNode(ctx, settings)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, full.stop()) }()
	cluster, err := b.startCluster(ctx, 1, instances)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.stop()) }()
	ways := []struct{ definitions, calls, executes *node }{{full, full, full}, {cluster.api, cluster.lb, cluster.runners[0]}}
	var targets []target
	for _, way := range ways {
		fnID, err := way.definitions.oneFn(ctx)
		if err != nil {
			return nil, err
		}
		if err := way.calls.warmUp(ctx, fnID, instances); err != nil {
			return nil, err
		}
		targets = append(targets, callTarget(way.calls.address, "/invoke/"+fnID, echoHeader, echoBody))
	}
	for _, subject := range []struct {
		name     string
		clients  int
		rounds   int
		duration time.Duration
	}{{"1 client", 1, choose(b, 10, 2), time.Second}, {fmt.Sprintf("%d clients", instances), instances, choose(b, 6, 2), 2 * time.Second}} {
		b.progress.show("%s, %d rounds", subject.name, subject.rounds)
		l := load{clients: subject.clients, warmUp: 300 * time.Millisecond, duration: choose(b, subject.duration, 500*time.Millisecond)}
		outcomes, err := l.alternate(ctx, subject.rounds, targets...)
		if err != nil {
			return nil, err
		}
		direct, through := outcomes[0], outcomes[1]
		check := atLeast("throughput", through.perSecond()/direct.perSecond(), 0.7, "x")
		if subject.clients == 1 {
			check = atMost("p50", summarize(milliseconds(through.served)).median/summarize(milliseconds(direct.served)).median, 1.5, "x")
		}
		lines = append(lines, loadLine("full node, "+subject.name, direct), loadLine("load balancer and runner, "+subject.name, through, check))
	}
	return lines, nil
}

// warmUp sees to it that a function has so many instances, by calls that keep those that
// there are busy while others start: for nodes that do not execute the calls themselves.
func (n *node) warmUp(ctx context.Context, fnID string, count int) error {
	header := delayHeader(500)
	for have := launchStep; ; have = min(have+launchStep, count) {
		n.bench.progress.show("%d of %d instances", have, count)
		l := load{clients: have, requests: have, backOff: overloadBackOff}
		if _, err := l.apply(ctx, callTarget(n.address, "/invoke/"+fnID, header, nil)); err != nil {
			return err
		}
		if have == count {
			return nil
		}
	}
}

// scaleRow finds out what three runners get through of what one does, where the capacity
// of each is fixed by the number of its instances, and their functions sleep, so that
// the processors of this machine are not what bounds it.
func scaleRow(ctx context.Context, b *bench) (lines []line, err error) {
	const most = 3
	cluster, err := b.startCluster(ctx, most, lbRunnerFits)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.stop()) }()
	fnID, err := cluster.api.oneFn(ctx)
	if err != nil {
		return nil, err
	}
	var targets []target
	counts := []int{1, 2, most}
	for _, count := range counts {
		lb, err := b.startLB(ctx, cluster.api, cluster.addresses(count)...)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, lb.stop()) }()
		targets = append(targets, callTarget(lb.address, "/invoke/"+fnID, delayHeader(lbSleepMs), echoBody))
	}
	if err := cluster.lb.warmUp(ctx, fnID, most*lbRunnerFits); err != nil {
		return nil, err
	}
	l := load{clients: lbClients, warmUp: 500 * time.Millisecond, duration: choose(b, 3*time.Second, time.Second), backOff: overloadBackOff}
	b.progress.show("%d clients", lbClients)
	outcomes, err := l.alternate(ctx, choose(b, 3, 1), targets...)
	if err != nil {
		return nil, err
	}
	for i, outcome := range outcomes {
		name := fmt.Sprintf("%d runners", counts[i])
		if counts[i] == 1 {
			name = "1 runner"
		}
		l := loadLine(fmt.Sprintf("%s of %d instances, %d clients", name, lbRunnerFits, lbClients), outcome)
		ratio := outcome.perSecond() / outcomes[0].perSecond()
		switch counts[i] {
		case 1:
		case most:
			l.Checks = []check{atLeast("completed", ratio, 2.7, "x")}
		default:
			l.Checks = []check{note("completed", ratio, "x")}
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// addresses are those of the first runners.
func (c *lbNodes) addresses(count int) (list []string) {
	for _, r := range c.runners[:count] {
		list = append(list, "127.0.0.1:"+r.settings["FN_GRPC_PORT"])
	}
	return list
}
