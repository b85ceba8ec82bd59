package runnerrpc

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	"github.com/tinefn/tine/model"
)

// maxDefinitions bounds what a runner remembers. All is forgotten when it is
// reached.
const maxDefinitions = 10_000

// definitions makes the same objects of equal definitions, as long as it remembers
// them: what is above tells by that whether something has changed.
type definitions struct {
	mu   sync.Mutex // guards made
	made map[string]definition
}

type definition struct {
	app *model.App
	fn  *model.Fn
}

// keys are buffers for the texts by which definitions are found.
var keys = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// of returns the definition that a call came with. What is merged of app and
// function is the function's here.
func (d *definitions) of(m *callModel) (*model.App, *model.Fn) {
	key := keys.Get().(*bytes.Buffer)
	defer keys.Put(key)
	key.Reset()
	m.writeDefinition(key)
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.made[string(key.Bytes())]; ok {
		return known.app, known.fn
	}
	if d.made == nil || len(d.made) >= maxDefinitions {
		d.made = map[string]definition{}
	}
	fresh := m.definition()
	d.made[key.String()] = fresh
	return fresh.app, fresh.fn
}

// writeDefinition writes all that the objects are made from, each part with its
// length, so that no two definitions look alike.
func (m *callModel) writeDefinition(b *bytes.Buffer) {
	text := func(parts ...string) {
		for _, part := range parts {
			b.Write(binary.AppendUvarint(b.AvailableBuffer(), uint64(len(part))))
			b.WriteString(part)
		}
	}
	number := func(n uint64) { b.Write(binary.AppendUvarint(b.AvailableBuffer(), n)) }
	text(m.FnID, m.AppID, m.AppName, m.Image, m.SyslogURL)
	number(m.Memory)
	number(uint64(m.Timeout))
	number(uint64(m.IdleTimeout))
	number(uint64(len(m.Config)))
	for _, key := range slices.Sorted(maps.Keys(m.Config)) {
		text(key, m.Config[key])
	}
	number(uint64(len(m.Annotations)))
	for _, key := range slices.Sorted(maps.Keys(m.Annotations)) {
		text(key, string(m.Annotations[key]))
	}
	if m.Tine != nil {
		text(m.Tine.FnName)
		number(uint64(m.Tine.AppUpdatedAt.UnixNano()))
		number(uint64(m.Tine.FnUpdatedAt.UnixNano()))
	}
}

func (m *callModel) definition() definition {
	app := &model.App{ID: m.AppID, Name: m.AppName}
	if m.SyslogURL != "" {
		app.SyslogURL = new(m.SyslogURL)
	}
	fn := &model.Fn{
		ID: m.FnID, AppID: m.AppID, Image: m.Image, Memory: m.Memory, Timeout: m.Timeout, IdleTimeout: m.IdleTimeout,
		Config: m.Config, Annotations: m.Annotations,
		Name: m.Config["FN_FN_NAME"], // of a load balancer that is not Tine's and knows it
	}
	if m.Tine != nil {
		fn.Name, fn.UpdatedAt, app.UpdatedAt = m.Tine.FnName, m.Tine.FnUpdatedAt, m.Tine.AppUpdatedAt
	}
	return definition{app, fn}
}
