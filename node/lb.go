package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/tinefn/tine/client"
	"github.com/tinefn/tine/internal/catalog"
	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/gateway"
	"github.com/tinefn/tine/internal/metrics"
)

// buildLB builds a node that accepts calls and has others execute them:
//
//	gateway -> catalog -> client                => api node
//	gateway -> forward -> placement -> runnerrpc => runner
func (n *Node) buildLB(ctx context.Context, router *edge.Router) error {
	if err := n.checkLB(); err != nil {
		return err
	}
	targets, err := n.openDefinitions()
	if err != nil {
		return err
	}
	invoker, err := n.buildForward(ctx)
	if err != nil {
		return err
	}
	calls := gateway.New(gateway.Options{
		Catalog: targets, Invoker: n.extend(invoker, atOnce), Trace: client.WithTrace, Forwards: true,
		Logger: n.log, MaxDetachedBytes: n.config.Runner.MaxDetachedBytes,
		Override: n.opts.Override, NoInvoke: n.opts.OmitInvoke, NoTriggers: n.opts.OmitTriggers,
	})
	n.stack.push("detached calls", calls.Close)
	calls.Register(router)
	return nil
}

// checkLB finds out whether the settings are there that the node cannot do
// without. The first words of an error are Fn's.
func (n *Node) checkLB() error {
	var errs []error
	if n.config.LB.APIURL == "" && n.opts.Source == nil {
		errs = append(errs, errors.New("no FN_RUNNER_API_URL provided for an Fn NuLB node: set it to the address of an api node, as in http://api.example.com:8080"))
	}
	if c := n.config.Placement; len(c.Addresses) == 0 && c.File == "" && n.opts.RunnerPool == nil {
		errs = append(errs, errors.New("must provide FN_RUNNER_ADDRESSES  when running in default load-balanced mode: set it to the runners, as in runner1.example.com:9190,runner2.example.com:9190, or FN_RUNNER_FILE to a file with them"))
	}
	return errors.Join(errs...)
}

// openDefinitions makes the catalog, whose source is the api node or the embedding
// program's. Nothing is asked yet: a load balancer starts also when that is down.
func (n *Node) openDefinitions() (*catalog.Catalog, error) {
	c := n.config.LB
	if n.opts.Source != nil {
		return n.newCatalog(n.opts.Source, "the program"), nil
	}
	opts := client.Options{Timeout: c.APITimeout}
	if c.APICA != "" || c.APICert != "" || c.APIKey != "" {
		var err error
		if opts.TLS, err = client.TLSConfig(c.APICA, c.APICert, c.APIKey); err != nil {
			return nil, fmt.Errorf("FN_RUNNER_API_TLS_CA, FN_RUNNER_API_TLS_CERT and FN_RUNNER_API_TLS_KEY: %w", err)
		}
	}
	api, err := client.New(c.APIURL, opts)
	if err != nil {
		return nil, fmt.Errorf("FN_RUNNER_API_URL: %w", err)
	}
	n.stack.push("connections to the api node", func(context.Context) error { api.Close(); return nil })
	n.log.Info("using LB Base URL: '" + api.Base() + "'")
	return n.newCatalog(catalog.Remote(api, c.APIRetries), api.Base()), nil
}

// newCatalog makes a catalog that goes on with what it knows while its source is down.
func (n *Node) newCatalog(source catalog.Source, name string) *catalog.Catalog {
	c := n.config.LB
	targets := catalog.NewStale(source, catalog.DefaultTTL, catalog.Stale{
		For: c.StaleFor, Patience: c.StalePatience, Entries: c.Definitions, Source: name, Logger: n.log,
	})
	metrics.RegisterDefinitions(n.registry, targets.Stats)
	return targets
}
