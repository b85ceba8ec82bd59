package sqlstore

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tinefn/tine/model"
)

// Maps are kept as the text of a JSON object, or as empty text.

func encodeMap[M model.Config | model.Annotations](m M) (string, error) {
	if len(m) == 0 {
		return "", nil
	}
	// Escapes of <, > and & would lengthen annotations, whose length is limited.
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(m); err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(text.Bytes(), []byte("\n"))), nil
}

// encodeMaps returns the texts of both maps that an app or a function has.
func encodeMaps(config model.Config, annotations model.Annotations) (configText, annotationText string, err error) {
	if configText, err = encodeMap(config); err != nil {
		return "", "", err
	}
	annotationText, err = encodeMap(annotations)
	return configText, annotationText, err
}

func decodeMap[M model.Config | model.Annotations](column string, text sql.NullString, m *M) error {
	if strings.TrimSpace(text.String) == "" {
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

// texts are the columns that need decoding, as they are kept. Databases that
// Fn has made and changed over years hold NULL where Tine writes empty text.
type texts struct {
	config, annotations, createdAt, updatedAt sql.NullString
}

func (c *texts) decode(config *model.Config, annotations *model.Annotations, created, updated *model.Timestamp) error {
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
