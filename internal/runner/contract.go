package runner

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

const mebibyte = 1 << 20

// specs remembers the spec of each function's newest definition: making one
// costs as much as the rest of a warm call.
type specs struct {
	mu  sync.Mutex            // guards the map
	ofs map[string]remembered // by function
}

// remembered is a spec and what it was made from. The catalog hands out the
// same objects as long as it believes in them.
type remembered struct {
	app       *model.App
	fn        *model.Fn
	container invoke.Container
	slot      string
	spec      *pool.Spec
}

func (m *remembered) isOf(call *invoke.Call) bool {
	return m.fn == call.Fn && m.app == call.App && m.container == call.Container && m.slot == call.Slot
}

// maxSpecs bounds what is remembered. All is forgotten when it is reached.
const maxSpecs = 10_000

// specOf returns what a call's instance is launched from. Extensions tell specs
// apart as far as the driver says so, and a registry token never does.
func (r *Runner) specOf(call *invoke.Call) *pool.Spec {
	spec := r.rememberedSpec(call)
	if len(call.Extensions) == 0 {
		return spec
	}
	with := *spec // what is remembered is for all calls
	with.RegistryToken = call.Extensions[invoke.ExtRegistryToken]
	extensions := sideData(call)
	if len(extensions) == 0 {
		return &with
	}
	with.Container.Extensions = extensions
	if key := r.opts.InstanceKey(extensions); key != "" {
		h := sha256.New()
		putText(h, spec.Key, key)
		with.Key = hex.EncodeToString(h.Sum(nil))
	}
	return &with
}

// sideData are the extensions that a container can notice.
func sideData(call *invoke.Call) map[string]string {
	extensions := maps.Clone(call.Extensions)
	delete(extensions, invoke.ExtRegistryToken)
	return extensions
}

// rememberedSpec is the spec of a call, extensions left aside.
func (r *Runner) rememberedSpec(call *invoke.Call) *pool.Spec {
	r.specs.mu.Lock()
	known := r.specs.ofs[call.Fn.ID]
	r.specs.mu.Unlock()
	if known.isOf(call) {
		return known.spec
	}
	spec := r.spec(call)
	r.specs.mu.Lock()
	defer r.specs.mu.Unlock()
	if r.specs.ofs == nil || len(r.specs.ofs) >= maxSpecs {
		r.specs.ofs = map[string]remembered{}
	}
	r.specs.ofs[call.Fn.ID] = remembered{call.App, call.Fn, call.Container, call.Slot, spec}
	return spec
}

// spec makes a spec by the function container contract: a container that
// answers HTTP on a unix socket in a directory that it shares with the server.
func (r *Runner) spec(call *invoke.Call) *pool.Spec {
	fn := call.Fn
	limits := r.opts.Limits
	limits.MemoryBytes = bytesOf(fn.Memory)
	limits.TmpMiB = min(cmp.Or(call.Container.TmpMiB, limits.TmpMiB), maxTmpMiB)
	limits.MilliCPU = cmp.Or(call.Container.MilliCPU, limits.MilliCPU)
	security := r.opts.Security
	security.NoNetwork = security.NoNetwork || call.Container.NoNetwork
	spec := &pool.Spec{
		Key: specKey(call), AppID: fn.AppID, FnID: fn.ID,
		Revision:    pool.Revision{App: call.App.UpdatedAt.Time, Fn: fn.UpdatedAt.Time},
		Scale:       model.ScaleOf(call.App.Annotations, fn.Annotations, r.opts.Scale),
		Need:        capacity.Amount{MemoryBytes: limits.MemoryBytes + bytesOf(uint64(limits.TmpMiB)), MilliCPU: limits.MilliCPU},
		IdleTimeout: time.Duration(fn.IdleTimeout) * time.Second,
		Container: driver.Spec{
			Image: fn.Image, Tenant: fn.AppID, Env: environment(call),
			Runtime: model.RuntimeOf(call.App.Annotations, fn.Annotations), Limits: limits, Security: security, Hostname: r.opts.Hostname,
		},
	}
	if call.Slot != "" {
		// Within the function, so that nobody gets another one's instance.
		spec.Key = fn.ID + "/" + call.Slot
	}
	spec.Output = r.outputOf(call)
	return spec
}

// maxTmpMiB bounds the size of /tmp that a call may ask for. It keeps sums within
// their range: no machine has that much memory.
const maxTmpMiB = math.MaxInt64 / 4 / mebibyte

// bytesOf is a size in bytes. What is beyond all machines is cut, so that two sizes
// can be added.
func bytesOf(mib uint64) int64 { return int64(min(mib, math.MaxInt64/2/mebibyte)) * mebibyte }

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
// container can notice of its definition. See specOf for extensions.
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
	putNumbers(h, uint64(call.Container.TmpMiB), uint64(call.Container.MilliCPU))
	putText(h, strconv.FormatBool(call.Container.NoNetwork))
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
