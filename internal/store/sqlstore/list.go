package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"

	"github.com/tinefn/tine/model"
)

// conditions are the parts of a WHERE clause and their arguments.
type conditions struct {
	parts []string
	args  []any
}

func (c *conditions) add(part string, args ...any) {
	c.parts = append(c.parts, part)
	c.args = append(c.args, args...)
}

// addIf adds a condition on a column unless the value is empty.
func (c *conditions) addIf(column, value string) {
	if value != "" {
		c.add(column+" = ?", value)
	}
}

// list reads one page of a table, ordered by name and then by ID. decode
// returns the item and where it is; the latter also if the item is undecodable.
func list[T any](ctx context.Context, s *Store, table, columns string, where conditions, page model.PageRequest,
	decode func(scanner) (T, model.Position, error),
) (model.Page[T], error) {
	result := model.Page[T]{Items: []T{}}
	if page.Cursor != "" {
		after, err := model.ParseCursor(page.Cursor)
		if err != nil {
			return result, err
		}
		if after.ID == "" {
			where.add("name > ?", after.Name)
		} else {
			where.add("(name > ? OR name = ? AND id > ?)", after.Name, after.Name, after.ID)
		}
	}
	query := "SELECT " + columns + " FROM " + table
	if len(where.parts) > 0 {
		query += " WHERE " + strings.Join(where.parts, " AND ")
	}
	query += " ORDER BY name, id"
	if page.PerPage > 0 {
		query += fmt.Sprintf(" LIMIT %d", page.PerPage+1) // one more tells whether there is a next page
	}
	rows, err := s.read.QueryContext(ctx, query, where.args...)
	if err != nil {
		return result, fmt.Errorf("list %s: %w", table, err)
	}
	defer rows.Close()
	return collect(s, table, rows, page.PerPage, result, decode)
}

// collect reads the rows of a page. A row that cannot be decoded is logged and
// left out, but counts: the next page begins behind it.
func collect[T any](s *Store, table string, rows *sql.Rows, perPage int, result model.Page[T],
	decode func(scanner) (T, model.Position, error),
) (model.Page[T], error) {
	var last model.Position
	for count := 0; rows.Next(); count++ {
		item, at, err := decode(rows)
		if perPage > 0 && count == perPage {
			if at.Name != last.Name {
				last.ID = ""
			}
			result.NextCursor = last.Cursor()
			break
		}
		last = at
		if rows.Err() != nil { // the query has ended, which is not the row's fault
			break
		}
		if err != nil {
			s.log.Warn("left out of a list: a row cannot be decoded",
				slog.String("table", table), slog.String("id", at.ID), slog.Any("error", err))
			continue
		}
		result.Items = append(result.Items, item)
	}
	if err := rows.Err(); err != nil {
		return result, fmt.Errorf("list %s: %w", table, err)
	}
	return result, nil
}
