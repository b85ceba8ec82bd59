package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tinefn/tine/test/functions"
)

// standbyVariants are how the first call of a function finds it.
var standbyVariants = []struct {
	name    string
	native  bool
	standby bool // an instance is started and frozen
}{
	{"docker, cold", false, false},
	{"native, cold", true, false},
	{"native, standby", true, true},
}

// standbyRow measures the first call of the examples in each language, and what their
// instances hold of memory while they are on standby.
func standbyRow(ctx context.Context, b *bench) (lines []line, err error) {
	const pool = 3
	count := choose(b, 8, 1)
	docker, err := b.startNode(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, docker.stop()) }()
	native, err := b.startNode(ctx, with(nativeSettings(0), "FN_SANDBOX_MIN", fmt.Sprint(pool)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, native.stop()) }()
	nodes := map[bool]coldNode{false: {docker, 0}, true: {native, pool}}
	apps := map[bool]string{}
	for which, n := range nodes {
		if apps[which], err = n.createApp(ctx); err != nil {
			return nil, err
		}
	}
	languages := choose(b, []functions.Language{functions.Go, functions.Node, functions.Python}, []functions.Language{functions.Node})
	latencies := map[functions.Language][][]time.Duration{}
	memory := map[functions.Language][]float64{}
	for _, language := range languages {
		latencies[language] = make([][]time.Duration, len(standbyVariants))
	}
	for round := range count + 1 { // the first one takes the images over
		for _, language := range languages {
			for i, variant := range standbyVariants {
				if skipped(language, i) {
					continue
				}
				b.progress.show("round %d of %d, %s, %s", round, count, language, variant.name)
				took, held, err := nodes[variant.native].firstCall(ctx, apps[variant.native], b.examples[language], variant.standby)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", language, variant.name, err)
				}
				if round == 0 {
					continue
				}
				latencies[language][i] = append(latencies[language][i], took)
				if variant.standby {
					memory[language] = append(memory[language], inMebibytes(held))
				}
			}
		}
	}
	for _, language := range languages {
		var before summary
		for i, variant := range standbyVariants {
			if skipped(language, i) {
				continue
			}
			l := latencyLine(string(language)+": "+variant.name, latencies[language][i])
			if before.n > 0 {
				l.Checks = []check{note("median by the one before", l.Median/before.median, "x")}
			}
			before = summarize(milliseconds(latencies[language][i]))
			lines = append(lines, l)
		}
		lines = append(lines, valuesLine(string(language)+": memory on standby", "MB", memory[language]))
	}
	return lines, nil
}

// skipped are the variants of Go with Docker: they are in row cold.
func skipped(language functions.Language, variant int) bool {
	return language == functions.Go && !standbyVariants[variant].native
}

// greeting is what the examples are called with.
var greeting = []byte(`{"name":"Ada"}`)

// firstCall makes a function, calls it once, and removes it. Held is what its instance
// held of memory before, if it was on standby.
func (n coldNode) firstCall(ctx context.Context, appID, image string, standby bool) (took time.Duration, held int64, err error) {
	var annotations object
	if standby {
		annotations = object{"tine/min-instances": 1}
	}
	fnID, err := n.createFnOf(ctx, appID, "fn", image, functionMemoryMiB, annotations)
	if err != nil {
		return 0, 0, err
	}
	if standby {
		if err := n.awaitFrozen(ctx, 1); err != nil {
			return 0, 0, err
		}
	}
	if err := n.awaitPool(ctx); err != nil {
		return 0, 0, err
	}
	if err := n.bench.awaitQuiet(ctx); err != nil {
		return 0, 0, err
	}
	if standby {
		bytes, err := n.metric(ctx, "tine_instance_memory_bytes", fnID, `state="paused"`)
		if err != nil {
			return 0, 0, err
		}
		if held = int64(bytes); held == 0 {
			return 0, 0, errors.New("the node does not tell what the instance holds")
		}
	}
	if took, err = n.call(ctx, fnID, jsonHeader, greeting); err != nil {
		return 0, 0, err
	}
	if err := n.delete(ctx, "/v2/fns/"+fnID); err != nil {
		return 0, 0, err
	}
	return took, held, n.awaitEmpty(ctx)
}
