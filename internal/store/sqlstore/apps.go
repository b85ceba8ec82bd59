package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"

	"github.com/tinefn/tine/model"
)

const appColumns = "id, name, config, annotations, syslog_url, shape, created_at, updated_at"

// AppByID returns an app.
func (s *Store) AppByID(ctx context.Context, id string) (*model.App, error) {
	return appByID(ctx, s.read, id)
}

func appByID(ctx context.Context, q querier, id string) (*model.App, error) {
	if id == "" {
		return nil, model.ErrAppMissingID
	}
	app, _, err := scanApp(q.QueryRowContext(ctx, "SELECT "+appColumns+" FROM apps WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, model.ErrAppNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read app %s: %w", id, err)
	}
	return app, nil
}

func scanApp(row scanner) (*model.App, model.Position, error) {
	var app model.App
	var c texts
	var syslogURL, shape sql.NullString
	err := row.Scan(&app.ID, &app.Name, &c.config, &c.annotations, &syslogURL, &shape, &c.createdAt, &c.updatedAt)
	if err == nil {
		err = c.decode(&app.Config, &app.Annotations, &app.CreatedAt, &app.UpdatedAt)
	}
	app.Shape = shape.String
	if syslogURL.String != "" {
		app.SyslogURL = &syslogURL.String
	}
	return &app, model.Position{Name: app.Name, ID: app.ID}, err
}

// AppIDByName returns the ID of the app with exactly this name.
func (s *Store) AppIDByName(ctx context.Context, name string) (string, error) {
	if name == "" {
		return "", model.Errorf(model.ErrAppMissingName, "Missing app name")
	}
	var id string
	err := s.read.QueryRowContext(ctx, "SELECT id FROM apps WHERE name = ?", name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", model.ErrAppNotFound
	}
	if err != nil {
		return "", fmt.Errorf("find an app by name: %w", err)
	}
	return id, nil
}

// ListApps returns one page of the apps that the filter selects.
func (s *Store) ListApps(ctx context.Context, filter model.AppFilter) (model.Page[*model.App], error) {
	var where conditions
	where.addIf("name", filter.Name)
	return list(ctx, s, "apps", appColumns, where, filter.Page, scanApp)
}

// InsertApp creates an app.
func (s *Store) InsertApp(ctx context.Context, given *model.App) (*model.App, error) {
	app := *given
	app.Config, app.Annotations = maps.Clone(given.Config), maps.Clone(given.Annotations)
	if given.SyslogURL != nil {
		app.SyslogURL = new(*given.SyslogURL)
	}
	app.NormalizeNew()
	if err := app.ValidateNew(); err != nil {
		return nil, err
	}
	app.ID, app.CreatedAt = model.NewID(), model.Now()
	app.UpdatedAt = app.CreatedAt
	config, annotations, err := encodeMaps(app.Config, app.Annotations)
	if err != nil {
		return nil, err
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO apps ("+appColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			app.ID, app.Name, config, annotations, app.SyslogURL, app.Shape, app.CreatedAt.String(), app.UpdatedAt.String())
		return err
	})
	if s.dialect.isDuplicate(err) {
		return nil, model.ErrAppAlreadyExists
	}
	if err != nil {
		return nil, fmt.Errorf("insert app %s: %w", app.Name, err)
	}
	return &app, nil
}

// UpdateApp changes the app with the patch's ID.
func (s *Store) UpdateApp(ctx context.Context, patch *model.App) (*model.App, error) {
	var app *model.App
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		old, err := appByID(ctx, tx, patch.ID)
		if err != nil {
			return err
		}
		if app, err = old.Merge(patch, model.Now()); err != nil || app.UpdatedAt == old.UpdatedAt {
			return err
		}
		config, annotations, err := encodeMaps(app.Config, app.Annotations)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE apps SET config = ?, annotations = ?, syslog_url = ?, updated_at = ? WHERE id = ?",
			config, annotations, app.SyslogURL, app.UpdatedAt.String(), app.ID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("update app %s: %w", patch.ID, err)
	}
	return app, nil
}

// RemoveApp removes an app with its functions and triggers.
func (s *Store) RemoveApp(ctx context.Context, id string) error {
	if id == "" {
		return model.ErrAppMissingID
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		return remove(ctx, tx, id, model.ErrAppNotFound, "DELETE FROM apps WHERE id = ?",
			"DELETE FROM fns WHERE app_id = ?", "DELETE FROM triggers WHERE app_id = ?")
	})
}

// remove deletes a row and what hangs on it; each statement's argument is id.
func remove(ctx context.Context, tx *sql.Tx, id string, notFound error, statement string, dependents ...string) error {
	result, err := tx.ExecContext(ctx, statement, id)
	if err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	if n == 0 {
		return notFound
	}
	for _, dependent := range dependents {
		if _, err := tx.ExecContext(ctx, dependent, id); err != nil {
			return fmt.Errorf("remove what belongs to %s: %w", id, err)
		}
	}
	return nil
}
