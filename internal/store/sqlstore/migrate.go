package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// fnSchemaVersion is the version of Fn's tables that migrations begin with.
const fnSchemaVersion = 26

// migrateAttempts is how often migrations are tried. When several processes
// open one database at once, all but one fail at each step, which is a
// transaction, and find it done at the next attempt.
const migrateAttempts = 5

// migrate brings the tables up to date, those of an Fn database included.
func (s *Store) migrate(ctx context.Context) error {
	if err := s.checkFnSchema(ctx); err != nil {
		return err
	}
	if err := s.checkSources(ctx); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(s.dialect.goose, s.write, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	for range migrateAttempts {
		if _, err = provider.Up(ctx); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

// checkFnSchema refuses tables of Fn that are not in the state that its last
// release leaves them in.
func (s *Store) checkFnSchema(ctx context.Context) error {
	found, err := exists(ctx, s.write, s.dialect.findTable, "schema_migrations")
	if err != nil || !found {
		return err
	}
	var version int64
	var dirty bool
	err = s.write.QueryRowContext(ctx, "SELECT version, dirty FROM schema_migrations").Scan(&version, &dirty)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("read the version of Fn's schema: %w", err)
	case dirty:
		return fmt.Errorf("database is dirty. version: %d; a migration of Fn failed half-way, repair it with Fn first", version)
	case version < fnSchemaVersion:
		return fmt.Errorf("the tables have version %d of Fn's schema and must have %d; open the database once with Fn 0.3.753 first", version, fnSchemaVersion)
	case version > fnSchemaVersion:
		return fmt.Errorf("the tables have version %d of Fn's schema, which is newer than %d, the last that is known", version, fnSchemaVersion)
	}
	return nil
}

// checkSources finds triggers that share a source, which Fn could make and the
// unique index forbids, and says which they are.
func (s *Store) checkSources(ctx context.Context) error {
	found, err := exists(ctx, s.write, s.dialect.findTable, "triggers")
	if err != nil || !found {
		return err
	}
	rows, err := s.write.QueryContext(ctx, "SELECT app_id, type, source, "+s.dialect.joinIDs+
		" FROM triggers GROUP BY app_id, type, source HAVING count(*) > 1 ORDER BY app_id, type, source")
	if err != nil {
		return fmt.Errorf("look for triggers with one source: %w", err)
	}
	defer rows.Close()
	var errs []error
	for rows.Next() {
		var appID, triggerType, source, ids string
		if err := rows.Scan(&appID, &triggerType, &source, &ids); err != nil {
			return fmt.Errorf("look for triggers with one source: %w", err)
		}
		errs = append(errs, fmt.Errorf("app %s has several triggers of type %s for source %q: %s; delete all but one with Fn",
			appID, triggerType, source, ids))
	}
	return errors.Join(append(errs, rows.Err())...)
}
