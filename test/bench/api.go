package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// object is a JSON object.
type object = map[string]any

const jsonHeader = "Content-Type: application/json\r\n"

// functionIdleSeconds is longer than any row takes.
const functionIdleSeconds = 3600

// create makes a definition and returns its ID.
func (n *node) create(ctx context.Context, path string, definition object) (string, error) {
	raw, err := json.Marshal(definition)
	if err != nil {
		return "", err
	}
	caller := newCaller(n.address)
	defer caller.close()
	var body bytes.Buffer
	got, err := caller.do(ctx, buildRequest("POST", path, jsonHeader, raw), &body)
	if err != nil {
		return "", fmt.Errorf("POST %s: %w", path, err)
	}
	var made struct{ ID string }
	if err := json.Unmarshal(body.Bytes(), &made); err != nil || got.status != http.StatusOK {
		return "", fmt.Errorf("POST %s: status %d: %s", path, got.status, body.Bytes())
	}
	return made.ID, nil
}

func (n *node) createApp(ctx context.Context) (string, error) {
	return n.create(ctx, "/v2/apps", object{"name": "bench"})
}

// createFn registers the test function, which stays warm until the node ends.
func (n *node) createFn(ctx context.Context, appID, name string, memoryMiB int) (string, error) {
	return n.createFnOf(ctx, appID, name, n.bench.image, memoryMiB, nil)
}

// createFnOf does so with a function of another image, and annotations.
func (n *node) createFnOf(ctx context.Context, appID, name, image string, memoryMiB int, annotations object) (string, error) {
	return n.create(ctx, "/v2/fns", object{
		"name": name, "app_id": appID, "image": image, "memory": memoryMiB, "idle_timeout": functionIdleSeconds, "annotations": annotations,
	})
}

// oneFn registers an app with one function of the usual memory.
func (n *node) oneFn(ctx context.Context) (string, error) {
	appID, err := n.createApp(ctx)
	if err != nil {
		return "", err
	}
	return n.createFn(ctx, appID, "fn", functionMemoryMiB)
}

// call makes one call and returns how long it took.
func (n *node) call(ctx context.Context, fnID, header string, payload []byte) (time.Duration, error) {
	caller := newCaller(n.address)
	defer caller.close()
	var body bytes.Buffer
	began := time.Now()
	got, err := caller.do(ctx, buildRequest("POST", "/invoke/"+fnID, header, payload), &body)
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("call: %w", err)
	}
	if got.status != http.StatusOK {
		return 0, fmt.Errorf("call: status %d: %s", got.status, body.Bytes())
	}
	return took, nil
}

// delete removes a definition.
func (n *node) delete(ctx context.Context, path string) error {
	caller := newCaller(n.address)
	defer caller.close()
	got, err := caller.do(ctx, buildRequest("DELETE", path, "", nil), nil)
	if err == nil && got.status != http.StatusNoContent {
		err = fmt.Errorf("status %d", got.status)
	}
	if err != nil {
		return fmt.Errorf("DELETE %s: %w", path, err)
	}
	return nil
}

// metric returns the sum of a metric of the node over all of its labels, or over
// those that have certain ones.
func (n *node) metric(ctx context.Context, name string, labels ...string) (float64, error) {
	caller := newCaller(n.address)
	defer caller.close()
	var body bytes.Buffer
	if got, err := caller.do(ctx, buildRequest("GET", "/metrics", "", nil), &body); err != nil || got.status != http.StatusOK {
		return 0, fmt.Errorf("read metrics: status %d: %w", got.status, err)
	}
	return sumMetric(body.Bytes(), name, labels...)
}

// sumMetric adds up the lines of a metric in Prometheus' text form.
func sumMetric(text []byte, name string, labels ...string) (sum float64, err error) {
	for line := range bytes.Lines(text) {
		rest, found := bytes.CutPrefix(line, []byte(name))
		if !found || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		if slices.ContainsFunc(labels, func(label string) bool { return !bytes.Contains(rest, []byte(label)) }) {
			continue
		}
		value, err := strconv.ParseFloat(string(bytes.TrimSpace(rest[bytes.LastIndexByte(rest, ' '):])), 64)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

// launchStep is how many containers are started at a time: engines get slow,
// and starts time out, when it are many.
const launchStep = 4

// launch sees to it that a function has so many instances, by calls that keep
// those that there are busy while others start.
func (n *node) launch(ctx context.Context, fnID string, count int) error {
	const attempts = 10
	header := delayHeader(1500)
	for range attempts * (count/launchStep + 1) {
		have, err := n.bench.containers(ctx, n.tag)
		if err != nil || have >= count {
			return err
		}
		n.bench.progress.show("%d of %d instances", have, count)
		errs := make([]error, min(have+launchStep, count))
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = n.call(ctx, fnID, header, nil) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("the node does not start %d instances of one function", count)
}
