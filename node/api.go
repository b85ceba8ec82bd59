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
	_, err := n.buildDefinitions(ctx, router)
	return err
}

// buildDefinitions opens the database and serves the API of definitions.
func (n *Node) buildDefinitions(ctx context.Context, router *edge.Router) (store.Store, error) {
	definitions, err := sqlstore.Open(ctx, n.config.Store.URL.Reveal(), sqlstore.Options{
		Logger: n.log, PingRetries: n.config.Store.PingRetries,
	})
	if err != nil {
		return nil, err
	}
	n.stack.push("the database", func(context.Context) error { return definitions.Close() })
	return definitions, httpapi.Register(router, httpapi.Options{
		Store: definitions, PublicURL: n.config.HTTP.PublicURL, MaxDefinitionBytes: n.config.HTTP.MaxDefinitionBytes,
	})
}
