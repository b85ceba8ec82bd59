package runnerrpc

import (
	"encoding/json"
	"maps"
	"strconv"
	"sync"

	"github.com/tinefn/tine/model"
)

// maxDefinitions bounds what each side remembers. All is forgotten when it is
// reached.
const maxDefinitions = 10_000

// encodedDefinitions are definitions as they travel, of which the newest of each
// function is remembered: they are most of what is told of a call.
type encodedDefinitions struct {
	mu  sync.RWMutex                 // guards ofs
	ofs map[string]encodedDefinition // by function
}

// encodedDefinition is a text and what it was made from. The catalog hands out the
// same objects as long as it believes in them.
type encodedDefinition struct {
	definition
	text string
}

// of returns the members of a definition, without braces.
func (d *encodedDefinitions) of(app *model.App, fn *model.Fn) (string, error) {
	d.mu.RLock()
	known := d.ofs[fn.ID]
	d.mu.RUnlock()
	if known.app == app && known.fn == fn {
		return known.text, nil
	}
	raw, err := json.Marshal(definitionPartOf(app, fn))
	if err != nil {
		return "", err
	}
	text := string(raw[1 : len(raw)-1])
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ofs == nil || len(d.ofs) >= maxDefinitions {
		d.ofs = map[string]encodedDefinition{}
	}
	d.ofs[fn.ID] = encodedDefinition{definition{app, fn}, text}
	return text, nil
}

// definitionPartOf merges what app and function say. Source: the runner protocol.
func definitionPartOf(app *model.App, fn *model.Fn) *definitionPart {
	m := &definitionPart{
		Image: fn.Image, Timeout: fn.Timeout, IdleTimeout: fn.IdleTimeout, Memory: fn.Memory,
		Config: model.Environment(app, fn), Annotations: make(map[string]json.RawMessage, len(app.Annotations)+len(fn.Annotations)),
		AppID: fn.AppID, AppName: app.Name, FnID: fn.ID,
		Tine: &tineDefinition{FnName: fn.Name, AppUpdatedAt: app.UpdatedAt, FnUpdatedAt: fn.UpdatedAt},
	}
	maps.Copy(m.Config, model.Config{
		"FN_MEMORY": strconv.FormatUint(fn.Memory, 10), "FN_TYPE": typeSync, "FN_FN_ID": fn.ID, "FN_APP_ID": fn.AppID,
	})
	maps.Copy(m.Annotations, app.Annotations)
	maps.Copy(m.Annotations, fn.Annotations)
	if app.SyslogURL != nil {
		m.SyslogURL = *app.SyslogURL
	}
	return m
}

// definitions makes the same objects of equal definitions, as long as it remembers
// them: what is above tells by that whether something has changed.
type definitions struct {
	mu   sync.RWMutex // guards made
	made map[string]definition
}

type definition struct {
	app *model.App
	fn  *model.Fn
}

// of returns the definition that a call came with. What is merged of app and
// function is the function's here.
func (d *definitions) of(m *definitionPart) definition {
	// Maps are written in the order of their keys, so that equal definitions are
	// equal texts.
	raw, err := json.Marshal(m)
	if err != nil { // cannot happen: it was read from JSON
		panic(err)
	}
	if known, ok := d.known(string(raw)); ok {
		return known
	}
	return d.remember(string(raw), m.definition())
}

// known finds a definition by a text that it was remembered by.
func (d *definitions) known(key string) (definition, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	found, ok := d.made[key]
	return found, ok
}

// remember keeps a definition, unless one is there by now, which it returns.
func (d *definitions) remember(key string, fresh definition) definition {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.made[key]; ok {
		return known
	}
	if d.made == nil || len(d.made) >= maxDefinitions {
		d.made = map[string]definition{}
	}
	d.made[key] = fresh
	return fresh
}

func (m *definitionPart) definition() definition {
	app := &model.App{ID: m.AppID, Name: m.AppName}
	if m.SyslogURL != "" {
		app.SyslogURL = &m.SyslogURL
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
