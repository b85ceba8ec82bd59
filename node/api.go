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

// openStore opens the database.
func (n *Node) openStore(ctx context.Context) (store.Store, error) {
	definitions, err := sqlstore.Open(ctx, n.config.Store.URL.Reveal(), sqlstore.Options{
		Logger: n.log, PingRetries: n.config.Store.PingRetries,
	})
	if err != nil {
		return nil, err
	}
	n.stack.push("the database", func(context.Context) error { return definitions.Close() })
	return definitions, nil
}

// serveDefinitions serves the API of definitions.
func (n *Node) serveDefinitions(router *edge.Router, definitions store.Store) error {
	return httpapi.Register(router, httpapi.Options{
		Store: definitions, PublicURL: n.config.HTTP.PublicURL, MaxDefinitionBytes: n.config.HTTP.MaxDefinitionBytes,
	})
}
