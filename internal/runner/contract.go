package runner

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

const mebibyte = 1 << 20

// spec says what a call's instance is launched from, by the function container
// contract: a container that answers HTTP on a unix socket in a directory that
// it shares with the server.
func (r *Runner) spec(call *invoke.Call) *pool.Spec {
	fn := call.Fn
	limits := r.opts.Limits
	limits.MemoryBytes = int64(fn.Memory) * mebibyte
	spec := &pool.Spec{
		Key: specKey(call), AppID: fn.AppID, FnID: fn.ID,
		Need:        capacity.Amount{MemoryBytes: limits.MemoryBytes + limits.TmpMiB*mebibyte, MilliCPU: limits.MilliCPU},
		IdleTimeout: time.Duration(fn.IdleTimeout) * time.Second,
		Container: driver.Spec{
			Image: fn.Image, Env: environment(call),
			Limits: limits, Security: r.opts.Security, Hostname: r.opts.Hostname,
			Extensions: call.Extensions,
		},
	}
	if call.App.SyslogURL != nil {
		spec.Container.Syslog = &driver.Syslog{Address: *call.App.SyslogURL, Tag: "app_id=" + fn.AppID + ",fn_id=" + fn.ID}
	}
	if r.opts.LogOutput {
		spec.Output = r.outputOf(call)
	}
	return spec
}

// environment is what the function's process finds in its environment: the
// configuration, then what the contract promises, which nothing can override.
func environment(call *invoke.Call) []string {
	env := model.Environment(call.App, call.Fn)
	maps.Copy(env, model.Config{
		"FN_MEMORY":   strconv.FormatUint(call.Fn.Memory, 10),
		"FN_TYPE":     "sync",
		"FN_FN_ID":    call.Fn.ID,
		"FN_APP_ID":   call.Fn.AppID,
		"FN_FN_NAME":  call.Fn.Name,
		"FN_APP_NAME": call.App.Name,
		"FN_LISTENER": "unix:" + driver.SocketMountPath + "/" + sockdir.SocketName,
		"FN_FORMAT":   "http-stream",
	})
	list := make([]string, 0, len(env))
	for _, key := range slices.Sorted(maps.Keys(env)) {
		list = append(list, key+"="+env[key])
	}
	return list
}

// specKey is the identity of interchangeable instances: a digest of all that a
// container can notice of its definition.
func specKey(call *invoke.Call) string {
	app, fn := call.App, call.Fn
	h := sha256.New()
	putText(h, fn.AppID, fn.ID, app.Name, fn.Name, fn.Image)
	if app.SyslogURL != nil {
		putText(h, *app.SyslogURL)
	}
	putNumbers(h, fn.Memory, uint64(fn.Timeout), uint64(fn.IdleTimeout))
	putMap(h, app.Config)
	putMap(h, fn.Config)
	putMap(h, app.Annotations)
	putMap(h, fn.Annotations)
	putMap(h, call.Extensions)
	return hex.EncodeToString(h.Sum(nil))
}

// putText adds texts, each with its length, so that no two lists look alike.
func putText(h hash.Hash, texts ...string) {
	for _, text := range texts {
		putNumbers(h, uint64(len(text)))
		h.Write([]byte(text))
	}
}

func putNumbers(h hash.Hash, numbers ...uint64) {
	var raw [8]byte
	for _, n := range numbers {
		binary.LittleEndian.PutUint64(raw[:], n)
		h.Write(raw[:])
	}
}

func putMap[V ~string | ~[]byte](h hash.Hash, m map[string]V) {
	putNumbers(h, uint64(len(m)))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		putText(h, key, string(m[key]))
	}
}
