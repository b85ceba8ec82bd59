package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"

	"github.com/tinefn/tine/model"
)

const fnColumns = "id, name, app_id, image, memory, timeout, idle_timeout, config, annotations, shape, created_at, updated_at"

// FnByID returns a function.
func (s *Store) FnByID(ctx context.Context, id string) (*model.Fn, error) {
	return fnByID(ctx, s.read, id)
}

func fnByID(ctx context.Context, q querier, id string) (*model.Fn, error) {
	if id == "" {
		return nil, model.ErrFnMissingID
	}
	fn, _, err := scanFn(q.QueryRowContext(ctx, "SELECT "+fnColumns+" FROM fns WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, model.ErrFnNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read fn %s: %w", id, err)
	}
	return fn, nil
}

func scanFn(row scanner) (*model.Fn, model.Position, error) {
	var fn model.Fn
	var c texts
	var shape sql.NullString
	err := row.Scan(&fn.ID, &fn.Name, &fn.AppID, &fn.Image, &fn.Memory, &fn.Timeout, &fn.IdleTimeout,
		&c.config, &c.annotations, &shape, &c.createdAt, &c.updatedAt)
	if err == nil {
		err = c.decode(&fn.Config, &fn.Annotations, &fn.CreatedAt, &fn.UpdatedAt)
	}
	fn.Shape = shape.String
	if fn.Config == nil { // the column can hold a JSON null
		fn.Config = model.Config{}
	}
	return &fn, model.Position{Name: fn.Name, ID: fn.ID}, err
}

// ListFns returns one page of the functions that the filter selects.
func (s *Store) ListFns(ctx context.Context, filter model.FnFilter) (model.Page[*model.Fn], error) {
	if filter.AppID == "" {
		return model.Page[*model.Fn]{Items: []*model.Fn{}}, model.ErrFnMissingAppID
	}
	var where conditions
	where.add("app_id = ?", filter.AppID)
	where.addIf("name", filter.Name)
	return list(ctx, s, "fns", fnColumns, where, filter.Page, scanFn)
}

// InsertFn creates a function.
func (s *Store) InsertFn(ctx context.Context, given *model.Fn) (*model.Fn, error) {
	if given == nil {
		return nil, model.Errorf(model.ErrFnMissingID, "Missing Fn")
	}
	fn := *given
	fn.Config, fn.Annotations = maps.Clone(given.Config), maps.Clone(given.Annotations)
	fn.NormalizeNew()
	if err := fn.ValidateNew(); err != nil {
		return nil, err
	}
	fn.ID, fn.CreatedAt = model.NewID(), model.Now()
	fn.UpdatedAt = fn.CreatedAt
	config, annotations, err := encodeMaps(fn.Config, fn.Annotations)
	if err != nil {
		return nil, err
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		var shape sql.NullString
		err := tx.QueryRowContext(ctx, "SELECT shape FROM apps WHERE id = ?", fn.AppID).Scan(&shape)
		if errors.Is(err, sql.ErrNoRows) {
			return model.ErrAppNotFound
		}
		if err != nil {
			return err
		}
		fn.Shape = shape.String
		_, err = tx.ExecContext(ctx, "INSERT INTO fns ("+fnColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			fn.ID, fn.Name, fn.AppID, fn.Image, fn.Memory, fn.Timeout, fn.IdleTimeout, config, annotations, fn.Shape,
			fn.CreatedAt.String(), fn.UpdatedAt.String())
		return err
	})
	if s.dialect.isDuplicate(err) {
		return nil, model.ErrFnAlreadyExists
	}
	if err != nil {
		return nil, fmt.Errorf("insert fn %s: %w", fn.Name, err)
	}
	return &fn, nil
}

// UpdateFn changes the function with the patch's ID.
func (s *Store) UpdateFn(ctx context.Context, patch *model.Fn) (*model.Fn, error) {
	var fn *model.Fn
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		old, err := fnByID(ctx, tx, patch.ID)
		if err != nil {
			return err
		}
		if fn, err = old.Merge(patch, model.Now()); err != nil || fn.UpdatedAt == old.UpdatedAt {
			return err
		}
		config, annotations, err := encodeMaps(fn.Config, fn.Annotations)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx,
			"UPDATE fns SET image = ?, memory = ?, timeout = ?, idle_timeout = ?, config = ?, annotations = ?, updated_at = ? WHERE id = ?",
			fn.Image, fn.Memory, fn.Timeout, fn.IdleTimeout, config, annotations, fn.UpdatedAt.String(), fn.ID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("update fn %s: %w", patch.ID, err)
	}
	return fn, nil
}

// RemoveFn removes a function with its triggers.
func (s *Store) RemoveFn(ctx context.Context, id string) error {
	if id == "" {
		return model.ErrFnMissingID
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		return remove(ctx, tx, id, model.ErrFnNotFound, "DELETE FROM fns WHERE id = ?", "DELETE FROM triggers WHERE fn_id = ?")
	})
}
