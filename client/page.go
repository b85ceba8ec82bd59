package client

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"strconv"

	"github.com/tinefn/tine/model"
)

// query returns the parameters of a list; those without a value are left out.
func query(page model.PageRequest, pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	if page.Cursor != "" {
		values.Set("cursor", page.Cursor)
	}
	if page.PerPage > 0 {
		values.Set("per_page", strconv.Itoa(page.PerPage))
	}
	return values
}

// each returns all items of a list, from the given page on. It asks for a page
// when the one before is used up, and ends with the first error.
func each[T any](ctx context.Context, from model.PageRequest, list func(context.Context, model.PageRequest) (model.Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for {
			page, err := list(ctx, from)
			if err != nil {
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			switch page.NextCursor {
			case "":
				return
			case from.Cursor:
				yield(none, fmt.Errorf("the API gave a page with itself as the next one, cursor %q", from.Cursor))
				return
			}
			from.Cursor = page.NextCursor
		}
	}
}
