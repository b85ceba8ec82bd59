package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/moby/moby/client"
)

// tagLabel is where the server puts FN_CONTAINER_LABEL_TAG.
const tagLabel = "fn-agent-classifier"

// cleanUpLimit bounds the removal of containers that a server left behind.
const cleanUpLimit = time.Minute

// containers counts those of a node.
func (b *bench) containers(ctx context.Context, tag string) (int, error) {
	filters := make(client.Filters).Add("label", tagLabel+"="+tag)
	list, err := b.engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	if err != nil {
		return 0, fmt.Errorf("count containers: %w", err)
	}
	return len(list.Items), nil
}

// removeContainers removes what a node left behind and returns how many it were.
func (b *bench) removeContainers(tag string) (int, error) {
	// Also after Ctrl-C.
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpLimit)
	defer cancel()
	list, err := b.engine.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", tagLabel+"="+tag),
	})
	if err != nil {
		return 0, fmt.Errorf("look for containers that were left behind: %w", err)
	}
	var errs []error
	for _, left := range list.Items {
		_, err := b.engine.ContainerRemove(ctx, left.ID, client.ContainerRemoveOptions{Force: true})
		errs = append(errs, err)
	}
	return len(list.Items), errors.Join(errs...)
}

// creations counts the containers that a node makes.
type creations struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	count  int
	err    error
}

// countCreations counts from now on, by the engine's events.
func (b *bench) countCreations(ctx context.Context, tag string) *creations {
	ctx, cancel := context.WithCancel(ctx)
	c := &creations{cancel: cancel}
	events := b.engine.Events(ctx, client.EventsListOptions{
		Filters: make(client.Filters).Add("type", "container").Add("event", "create").Add("label", tagLabel+"="+tag),
	})
	c.wg.Go(func() {
		for {
			select {
			case <-events.Messages:
				c.count++
			case err := <-events.Err:
				if ctx.Err() == nil {
					c.err = fmt.Errorf("follow the engine's events: %w", err)
				}
				return
			}
		}
	})
	return c
}

// stop ends counting.
func (c *creations) stop() (int, error) {
	c.cancel()
	c.wg.Wait()
	return c.count, c.err
}
