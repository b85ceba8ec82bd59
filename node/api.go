package node

import (
	"context"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/internal/store/sqlstore"
)

// buildAPI builds a node that keeps definitions and executes nothing.
func (n *Node) buildAPI(ctx context.Context, router *edge.Router) error {
	definitions, err := n.openStore(ctx)
	if err != nil {
		return err
	}
	return n.serveDefinitions(router, definitions)
}

// openStore opens the database, or takes the embedding program's.
func (n *Node) openStore(ctx context.Context) (store.Store, error) {
	definitions, err := n.opts.Store, error(nil)
	if definitions == nil {
		definitions, err = n.openDatabase(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, wrap := range n.opts.WrapStore {
		definitions = wrap(definitions)
	}
	n.stack.push("the database", func(context.Context) error { return definitions.Close() })
	return definitions, nil
}

// openDatabase opens the database that the settings name.
func (n *Node) openDatabase(ctx context.Context) (store.Store, error) {
	definitions, err := sqlstore.Open(ctx, n.config.Store.URL.Reveal(), sqlstore.Options{
		Logger: n.log, PingRetries: n.config.Store.PingRetries,
	})
	if err != nil {
		return nil, err // not a nil *sqlstore.Store, which would be no nil Store
	}
	return definitions, nil
}

// serveDefinitions serves the API of definitions.
func (n *Node) serveDefinitions(router *edge.Router, definitions store.Store) error {
	return httpapi.Register(router, httpapi.Options{
		Store: n.heard(definitions), PublicURL: n.config.HTTP.PublicURL, MaxDefinitionBytes: n.config.HTTP.MaxDefinitionBytes,
		Middleware: n.opts.APIMiddleware, AnnotateFn: n.opts.AnnotateFn, AnnotateTrigger: n.opts.AnnotateTrigger,
	})
}
