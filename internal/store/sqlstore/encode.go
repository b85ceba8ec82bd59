package sqlstore

import (
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/tinefn/tine/model"
)

// Maps are kept as the text of a JSON object, or as empty text.

func encodeMap[M model.Config | model.Annotations](m M) (string, error) {
	if len(m) == 0 {
		return "", nil
	}
	raw, err := json.Marshal(m)
	return string(raw), err
}

func decodeMap[M model.Config | model.Annotations](column string, text sql.NullString, m *M) error {
	if text.String == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text.String), m); err != nil {
		return fmt.Errorf("column %s: %w", column, err)
	}
	return nil
}

func decodeTime(column string, text sql.NullString, t *model.Timestamp) error {
	if text.String == "" {
		return nil
	}
	parsed, err := model.ParseTimestamp(text.String)
	if err != nil {
		return fmt.Errorf("column %s: %w", column, err)
	}
	*t = parsed
	return nil
}

// scanner is a row or one of several.
type scanner interface{ Scan(dest ...any) error }

// common are the columns that all definitions have, as they are kept.
type common struct {
	config, annotations, createdAt, updatedAt sql.NullString
}

func (c *common) decode(config *model.Config, annotations *model.Annotations, created, updated *model.Timestamp) error {
	if config != nil {
		if err := decodeMap("config", c.config, config); err != nil {
			return err
		}
	}
	if err := decodeMap("annotations", c.annotations, annotations); err != nil {
		return err
	}
	if err := decodeTime("created_at", c.createdAt, created); err != nil {
		return err
	}
	return decodeTime("updated_at", c.updatedAt, updated)
}
