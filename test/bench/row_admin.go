package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

const (
	adminClients = 16
	pageSize     = 100
)

// adminRow measures the definitions API.
func adminRow(ctx context.Context, b *bench) (lines []line, err error) {
	n, err := b.startNode(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	appID, err := n.createApp(ctx)
	if err != nil {
		return nil, err
	}
	count := choose(b, 10_000, 500)
	b.progress.show("create %d functions", count)
	created, err := load{clients: adminClients, requests: count}.apply(ctx, target{n.address, func(client, i int) []byte {
		return createFnRequest(appID, b.image, fmt.Sprintf("fn-%d-%d", client, i))
	}})
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	b.progress.show("list %d functions", count)
	var pages []time.Duration
	var ids []string
	for range choose(b, 5, 2) {
		var took []time.Duration
		if took, ids, err = n.listFns(ctx, appID); err != nil {
			return nil, fmt.Errorf("list: %w", err)
		}
		if len(ids) != count {
			return nil, fmt.Errorf("listed %d functions of %d", len(ids), count)
		}
		pages = append(pages, took...)
	}
	b.progress.show("get functions")
	gets := make([][]byte, len(ids))
	for i, id := range ids {
		gets[i] = buildRequest("GET", "/v2/fns/"+id, "", nil)
	}
	const stride = 7919 // a prime: clients go through all, in an order of their own
	reading := load{clients: adminClients, warmUp: 300 * time.Millisecond, duration: choose(b, 6*time.Second, time.Second)}
	got, err := reading.apply(ctx, target{n.address, func(client, i int) []byte {
		return gets[(client*len(gets)/adminClients+i*stride)%len(gets)]
	}})
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	return []line{
		loadLine("create fn, 16 clients", created, atLeast("per second", created.perSecond(), 1500, "")),
		loadLine("get fn, 16 clients", got, atLeast("per second", got.perSecond(), 9000, "")),
		latencyLine(fmt.Sprintf("page of %d of %d fns, 1 client", pageSize, count), pages,
			atMost("p50", summarize(milliseconds(pages)).median, 2, "ms")),
	}, nil
}

// createFnRequest needs no escaping: all values are letters, digits and the
// like.
func createFnRequest(appID, image, name string) []byte {
	return buildRequest("POST", "/v2/fns", jsonHeader, fmt.Appendf(nil, `{"app_id":%q,"image":%q,"name":%q}`, appID, image, name))
}

// listFns goes through the pages of all functions of an app. It returns how
// long each page took, without the time to decode it.
func (n *node) listFns(ctx context.Context, appID string) (pages []time.Duration, ids []string, err error) {
	caller := newCaller(n.address)
	defer caller.close()
	if err := caller.connect(ctx); err != nil {
		return nil, nil, err
	}
	for cursor := ""; ; {
		query := url.Values{"app_id": {appID}, "per_page": {fmt.Sprint(pageSize)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		request := buildRequest("GET", "/v2/fns?"+query.Encode(), "", nil)
		var body bytes.Buffer
		began := time.Now()
		got, err := caller.do(ctx, request, &body)
		pages = append(pages, time.Since(began))
		if err != nil {
			return nil, nil, err
		}
		if got.status != http.StatusOK {
			return nil, nil, fmt.Errorf("status %d: %s", got.status, body.Bytes())
		}
		var page struct {
			Items      []struct{ ID string }
			NextCursor string `json:"next_cursor"`
		}
		if err := json.Unmarshal(body.Bytes(), &page); err != nil {
			return nil, nil, err
		}
		for _, item := range page.Items {
			ids = append(ids, item.ID)
		}
		if cursor = page.NextCursor; cursor == "" {
			return pages, ids, nil
		}
	}
}
