package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/driver/prefork"
	"github.com/tinefn/tine/model"
)

// engineVariants are how the driver for Docker gives containers their network.
var engineVariants = []struct {
	name    string
	prefork bool
}{{"own network", false}, {"prefork pool", true}}

// engineRow shows where the time of a start goes, by the driver alone, and so
// what could be gained if containers were created ahead of their first call.
func engineRow(ctx context.Context, b *bench) (lines []line, err error) {
	count := choose(b, 20, 2)
	drivers := make([]*docker.Driver, len(engineVariants))
	for i, variant := range engineVariants {
		opts := docker.Options{Host: os.Getenv("DOCKER_HOST"), LabelTag: "bench-" + filepath.Base(b.dir)}
		if variant.prefork {
			opts.Prefork = docker.Prefork{Min: enginePool, Max: 2 * enginePool, UseOnce: true}
		}
		if drivers[i], err = docker.New(ctx, opts); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, drivers[i].Close(context.WithoutCancel(ctx))) }()
	}
	laps := make([]startLaps, len(engineVariants))
	for round := range count {
		b.progress.show("container %d of %d", round+1, count)
		for i, d := range drivers {
			if err := awaitNamespaces(ctx, d, enginePool); err != nil {
				return nil, err
			}
			if err := b.awaitQuiet(ctx); err != nil {
				return nil, err
			}
			if err := b.timeContainer(ctx, d, &laps[i]); err != nil {
				return nil, err
			}
			if err := awaitNamespaces(ctx, d, enginePool); err != nil { // before the other's turn
				return nil, err
			}
		}
	}
	for i, variant := range engineVariants {
		create, start := summarize(milliseconds(laps[i].create)), summarize(milliseconds(laps[i].start))
		lines = append(lines,
			latencyLine(variant.name+": create", laps[i].create, note("of create and start", 100*create.median/(create.median+start.median), "%")),
			latencyLine(variant.name+": start", laps[i].start),
			latencyLine(variant.name+": remove", laps[i].remove))
	}
	return lines, nil
}

// startLaps are the steps of containers' lives.
type startLaps struct{ create, start, remove []time.Duration }

// timeContainer goes through the life of a container.
func (b *bench) timeContainer(ctx context.Context, d driver.Driver, laps *startLaps) error {
	dir, err := b.makeDir()
	if err != nil {
		return err
	}
	spec := &driver.Spec{
		ID: "bench-" + model.NewID(), Image: b.image, SocketDir: dir, Env: []string{"FN_LISTENER=unix:" + driver.SocketMountPath + "/lsnr.sock"},
		Limits:   driver.Limits{MemoryBytes: functionMemoryMiB * mebibyte, Processes: 50, OpenFiles: 350},
		Security: driver.Security{Unprivileged: true, ReadOnlyRoot: true, Init: true},
		Stdout:   discard{}, Stderr: discard{},
	}
	began := time.Now()
	c, err := d.Create(ctx, spec)
	if err != nil {
		return err
	}
	created := time.Now()
	err = c.Start(ctx)
	started := time.Now()
	err = errors.Join(err, c.Remove(context.WithoutCancel(ctx)))
	if err != nil {
		return err
	}
	laps.create = append(laps.create, created.Sub(began))
	laps.start = append(laps.start, started.Sub(created))
	laps.remove = append(laps.remove, time.Since(started))
	return nil
}

// discard is a sink: with one, the driver attaches to the container's output.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// poolRow finds out what the namespaces of a prefork pool take of the machine's
// memory.
func poolRow(ctx context.Context, b *bench) (lines []line, err error) {
	size, rounds := choose(b, 30, 4), choose(b, 3, 1)
	var each, took []float64
	for round := range rounds {
		b.progress.show("round %d of %d", round+1, rounds)
		mebibytes, seconds, err := b.measurePool(ctx, size)
		if err != nil {
			return nil, err
		}
		each, took = append(each, mebibytes), append(took, seconds)
	}
	return []line{
		valuesLine(fmt.Sprintf("memory of each of %d namespaces", size), "MB", each),
		valuesLine("time to make one, two at once", "ms", took),
	}, nil
}

// measurePool fills a pool and returns what each of its namespaces took.
func (b *bench) measurePool(ctx context.Context, size int) (mebibytes, milliseconds float64, err error) {
	if err := b.awaitQuiet(ctx); err != nil {
		return 0, 0, err
	}
	before, err := heldMemory()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	d, err := docker.New(ctx, docker.Options{
		Host: os.Getenv("DOCKER_HOST"), LabelTag: "bench-" + filepath.Base(b.dir), Prefork: docker.Prefork{Min: size, Max: size},
	})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.Close(context.WithoutCancel(ctx))) }()
	if err := awaitNamespaces(ctx, d, size); err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	if err := b.awaitQuiet(ctx); err != nil {
		return 0, 0, err
	}
	after, err := heldMemory()
	return inMebibytes(after-before) / float64(size), inMilliseconds(took) / float64(size), err
}

// enginePool is how many namespaces are ready in row engine.
const enginePool = 2

// awaitNamespaces waits until a driver with a pool has so many, and makes nothing.
func awaitNamespaces(ctx context.Context, d *docker.Driver, want int) error {
	levels := d.PreforkLevels()
	if levels == nil {
		return nil
	}
	err := poll(ctx, 5*time.Millisecond, startLimit, func() (bool, error) {
		count := d.PreforkLevels()[0].Count
		return count[prefork.Ready] >= want && count[prefork.Creating]+count[prefork.Probing]+count[prefork.Retiring] == 0, nil
	})
	if err != nil {
		return fmt.Errorf("wait for network namespaces: %w", err)
	}
	return nil
}
