package docker

import (
	"context"
	"log/slog"

	"github.com/tinefn/tine/driver"
)

// Examine finds out whether the engine answers and has what the driver needs. It
// changes nothing there.
func Examine(ctx context.Context, opts Options) []driver.Finding {
	opts = opts.withDefaults()
	opts.Logger = slog.New(slog.DiscardHandler)
	engine, err := Connect(opts)
	if err != nil {
		return []driver.Finding{{Subject: "engine", Err: err}}
	}
	defer func() { _ = engine.Close() }()
	d := &Driver{opts: opts, log: opts.Logger, engine: &timed{engine, opts.Observe}}
	can, err := d.probe(ctx)
	return []driver.Finding{{Subject: "engine", Detail: "version " + can.Version + " at " + opts.Host, Err: err}}
}
