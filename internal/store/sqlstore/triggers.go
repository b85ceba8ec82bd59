package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"

	"github.com/tinefn/tine/model"
)

const triggerColumns = "id, name, app_id, fn_id, type, source, annotations, created_at, updated_at"

// TriggerByID returns a trigger.
func (s *Store) TriggerByID(ctx context.Context, id string) (*model.Trigger, error) {
	return triggerByID(ctx, s.read, id)
}

func triggerByID(ctx context.Context, q querier, id string) (*model.Trigger, error) {
	if id == "" {
		return nil, model.ErrTriggerMissingID
	}
	return oneTrigger(ctx, q, "id = ?", id)
}

// TriggerBySource returns the trigger of an app with exactly this type and source.
func (s *Store) TriggerBySource(ctx context.Context, appID, triggerType, source string) (*model.Trigger, error) {
	return oneTrigger(ctx, s.read, "app_id = ? AND type = ? AND source = ?", appID, triggerType, source)
}

func oneTrigger(ctx context.Context, q querier, where string, args ...any) (*model.Trigger, error) {
	trigger, _, err := scanTrigger(q.QueryRowContext(ctx, "SELECT "+triggerColumns+" FROM triggers WHERE "+where, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, model.ErrTriggerNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read trigger %v: %w", args, err)
	}
	return trigger, nil
}

func scanTrigger(row scanner) (*model.Trigger, model.Position, error) {
	var t model.Trigger
	var c texts
	err := row.Scan(&t.ID, &t.Name, &t.AppID, &t.FnID, &t.Type, &t.Source, &c.annotations, &c.createdAt, &c.updatedAt)
	if err == nil {
		err = c.decode(nil, &t.Annotations, &t.CreatedAt, &t.UpdatedAt)
	}
	return &t, model.Position{Name: t.Name, ID: t.ID}, err
}

// ListTriggers returns one page of the triggers that the filter selects.
func (s *Store) ListTriggers(ctx context.Context, filter model.TriggerFilter) (model.Page[*model.Trigger], error) {
	if filter.AppID == "" {
		return model.Page[*model.Trigger]{Items: []*model.Trigger{}}, model.ErrTriggerMissingAppID
	}
	var where conditions
	where.add("app_id = ?", filter.AppID)
	where.addIf("fn_id", filter.FnID)
	where.addIf("name", filter.Name)
	return list(ctx, s, "triggers", triggerColumns, where, filter.Page, scanTrigger)
}

// InsertTrigger creates a trigger.
func (s *Store) InsertTrigger(ctx context.Context, given *model.Trigger) (*model.Trigger, error) {
	trigger := *given
	trigger.Annotations = maps.Clone(given.Annotations)
	trigger.NormalizeNew()
	if err := trigger.ValidateNew(); err != nil {
		return nil, err
	}
	trigger.ID, trigger.CreatedAt = model.NewID(), model.Now()
	trigger.UpdatedAt = trigger.CreatedAt
	annotations, err := encodeMap(trigger.Annotations)
	if err != nil {
		return nil, err
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		found, err := exists(ctx, tx, "SELECT 1 FROM apps WHERE id = ?", trigger.AppID)
		if err != nil {
			return err
		}
		if !found {
			return model.ErrAppNotFound
		}
		if err := checkTrigger(ctx, tx, &trigger); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO triggers ("+triggerColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			trigger.ID, trigger.Name, trigger.AppID, trigger.FnID, trigger.Type, trigger.Source, annotations,
			trigger.CreatedAt.String(), trigger.UpdatedAt.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("insert trigger %s: %w", trigger.Name, err)
	}
	return &trigger, nil
}

// checkTrigger checks what a trigger needs of others: that its function exists
// in its app, and that its source and its name are free. The transaction holds
// the write lock, so what it finds stays true until the commit.
func checkTrigger(ctx context.Context, tx *sql.Tx, trigger *model.Trigger) error {
	var appID string
	err := tx.QueryRowContext(ctx, "SELECT app_id FROM fns WHERE id = ?", trigger.FnID).Scan(&appID)
	if errors.Is(err, sql.ErrNoRows) {
		return model.ErrFnNotFound
	}
	if err != nil {
		return err
	}
	if appID != trigger.AppID {
		return model.ErrTriggerFnOfOtherApp
	}
	taken, err := exists(ctx, tx, "SELECT 1 FROM triggers WHERE app_id = ? AND type = ? AND source = ? AND id <> ?",
		trigger.AppID, trigger.Type, trigger.Source, trigger.ID)
	if err != nil {
		return err
	}
	if taken {
		return model.ErrTriggerSourceExists
	}
	taken, err = exists(ctx, tx, "SELECT 1 FROM triggers WHERE app_id = ? AND fn_id = ? AND name = ? AND id <> ?",
		trigger.AppID, trigger.FnID, trigger.Name, trigger.ID)
	if err != nil {
		return err
	}
	if taken {
		return model.ErrTriggerAlreadyExists
	}
	return nil
}

// UpdateTrigger changes the trigger with the patch's ID.
func (s *Store) UpdateTrigger(ctx context.Context, patch *model.Trigger) (*model.Trigger, error) {
	var trigger *model.Trigger
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		old, err := triggerByID(ctx, tx, patch.ID)
		if err != nil {
			return err
		}
		if trigger, err = old.Merge(patch, model.Now()); err != nil || trigger.UpdatedAt == old.UpdatedAt {
			return err
		}
		if err := checkTrigger(ctx, tx, trigger); err != nil {
			return err
		}
		annotations, err := encodeMap(trigger.Annotations)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE triggers SET name = ?, fn_id = ?, source = ?, annotations = ?, updated_at = ? WHERE id = ?",
			trigger.Name, trigger.FnID, trigger.Source, annotations, trigger.UpdatedAt.String(), trigger.ID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("update trigger %s: %w", patch.ID, err)
	}
	return trigger, nil
}

// RemoveTrigger removes a trigger.
func (s *Store) RemoveTrigger(ctx context.Context, id string) error {
	if id == "" {
		return model.ErrTriggerMissingID
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		return remove(ctx, tx, id, model.ErrTriggerNotFound, "DELETE FROM triggers WHERE id = ?")
	})
}
