package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// fnSchemaVersion is the version of Fn's tables that migrations begin with.
const fnSchemaVersion = 26

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
	provider, err := goose.NewProvider(database.Dialect(s.dialect.goose), s.write, files)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// checkFnSchema refuses tables of Fn that are not in the state that its last
// release leaves them in.
func (s *Store) checkFnSchema(ctx context.Context) error {
	var version int64
	var dirty bool
	err := s.write.QueryRowContext(ctx, "SELECT version, dirty FROM schema_migrations").Scan(&version, &dirty)
	switch {
	case errors.Is(err, sql.ErrNoRows), err != nil && isMissingTable(err):
		return nil // a fresh database
	case err != nil:
		return err
	case dirty:
		return fmt.Errorf("database is dirty. version: %d; a migration of Fn failed half-way, repair it with Fn first", version)
	case version != fnSchemaVersion:
		return fmt.Errorf("the tables have version %d of Fn's schema and must have %d; open the database once with Fn 0.3.753", version, fnSchemaVersion)
	}
	return nil
}

func isMissingTable(err error) bool { return strings.Contains(err.Error(), "no such table") }

// checkSources finds triggers that share a source, which Fn could make and the
// unique index forbids, and says which they are.
func (s *Store) checkSources(ctx context.Context) error {
	rows, err := s.write.QueryContext(ctx, `SELECT app_id, type, source, group_concat(id, ', ')
		FROM triggers GROUP BY app_id, type, source HAVING count(*) > 1`)
	if err != nil {
		if isMissingTable(err) {
			return nil
		}
		return err
	}
	defer rows.Close()
	var errs []error
	for rows.Next() {
		var appID, triggerType, source, ids string
		if err := rows.Scan(&appID, &triggerType, &source, &ids); err != nil {
			return err
		}
		errs = append(errs, fmt.Errorf("app %s has several triggers of type %s for source %q: %s; delete all but one with Fn", appID, triggerType, source, ids))
	}
	return errors.Join(append(errs, rows.Err())...)
}
