package docker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver/prefork"
)

// Prefork configures the pool of network namespaces.
type Prefork struct {
	Min, Max   int      // as in prefork.Options; Max 0: no pool
	Networks   []string // empty: Options.Networks
	UseOnce    bool     // as in prefork.Options, likewise below
	Quarantine time.Duration
	KeepUsed   time.Duration
	ProbeEvery time.Duration
	AppShare   int
	Short      func() (processors, memory bool)

	Image    string   // of placeholders; empty: a built-in one
	Command  []string // of Image; empty: the image's own
	Hostname string   // of placeholders and those who join them; empty: a random one

	Observer prefork.Observer // nil: none
}

// startPrefork begins to fill the pool, if there is to be one and it helps.
func (d *Driver) startPrefork() {
	opts := d.opts.Prefork
	if opts.Max <= 0 {
		return
	}
	names := opts.Networks
	if len(names) == 0 {
		names = d.opts.Networks
	}
	// These have no namespace that would have to be made.
	own := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		mode := container.NetworkMode(name)
		return mode.IsHost() || mode.IsNone() || mode.IsContainer()
	})
	_, builtIn := pauseCode[d.architecture]
	switch {
	case len(own) == 0 && len(names) > 0:
		d.log.Info("no prefork pool: the networks of containers have no namespaces of their own", slog.Any("networks", names))
		return
	case !d.joins(""):
		d.log.Info("no prefork pool: containers of this runtime cannot share a network namespace", slog.String("runtime", cmp.Or(d.opts.Runtime, d.engineRuntime)))
		return
	case !d.linux:
		d.log.Info("no prefork pool: only engines on Linux have network namespaces")
		return
	case !builtIn && opts.Image == "":
		d.log.Info("no prefork pool: there is no built-in image for these processors, set FN_PREFORK_IMAGE", slog.String("processor", d.architecture))
		return
	}
	maker := &placeholders{driver: d, hostname: opts.Hostname}
	if opts.Image != "" {
		maker.command = opts.Command
	}
	maker.image = placeholderImage{driver: d, request: opts.Image}
	d.prefork = prefork.New(prefork.Options{
		Maker: maker, Quiet: d.starts.lull.Wait, Networks: own, Min: opts.Min, Max: opts.Max, UseOnce: opts.UseOnce,
		Quarantine: opts.Quarantine, KeepUsed: opts.KeepUsed, ProbeEvery: opts.ProbeEvery,
		AppShare: opts.AppShare, Short: opts.Short, Logger: d.log, Observer: opts.Observer,
	})
	d.wg.Go(d.watchPlaceholders)
}

// PreforkLevels returns how many namespaces there are, nil without a pool.
func (d *Driver) PreforkLevels() []prefork.Level {
	if d.prefork == nil {
		return nil
	}
	return d.prefork.Levels()
}

// The pauses before the engine is asked for its events again.
const (
	firstEventsPause = 100 * time.Millisecond
	lastEventsPause  = 10 * time.Second
)

// watchPlaceholders tells the pool of placeholders that die.
func (d *Driver) watchPlaceholders() {
	filters := client.Filters{}.Add("type", string(events.ContainerEventType)).
		Add("event", string(events.ActionDie)).Add("label", placeholderLabel+"=true")
	for pause := firstEventsPause; ; pause = min(2*pause, lastEventsPause) {
		began := time.Now()
		err := d.followEvents(d.background, filters)
		if d.background.Err() != nil {
			return
		}
		if time.Since(began) > lastEventsPause {
			pause = firstEventsPause
		}
		d.log.Debug("lost the engine's events", slog.Any("error", err), slog.Duration("retry_in", pause))
		if !sleep(d.background, pause) {
			return
		}
	}
}

// followEvents passes on the deaths of placeholders until the stream of events
// ends. When it has begun all are probed, as nobody knows what happened before.
func (d *Driver) followEvents(ctx context.Context, filters client.Filters) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := d.engine.Events(ctx, client.EventsListOptions{Filters: filters})
	d.prefork.ProbeAll()
	for {
		select {
		case event := <-stream.Messages:
			d.prefork.Died(event.Actor.ID)
		case err, ok := <-stream.Err:
			if !ok {
				return errors.New("the stream has ended")
			}
			return err
		}
	}
}
