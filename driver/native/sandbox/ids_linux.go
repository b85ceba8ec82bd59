package sandbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// IDs are the users and groups of the host that stand for those in a sandbox, 0
// and up. None means that the sandbox has no user namespace, and that a user in it
// is the same one on the host.
type IDs struct {
	First uint32
}

// IDsPerSandbox is how many users and groups a sandbox has: those that POSIX
// programs and images count with.
const IDsPerSandbox = 1 << 16

func (i IDs) some() bool { return i.First != 0 }

// Host is the host's number for a user or group of the sandbox.
func (i IDs) Host(id uint32) int { return int(i.First) + int(id) }

// apply makes a process the root of a user namespace of its own.
func (i IDs) apply(attr *syscall.SysProcAttr) {
	mapping := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(i.First), Size: IDsPerSandbox}}
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = mapping, mapping, true
	attr.Credential = &syscall.Credential{} // root, in it
}

// The range of ids that sandboxes share. Source: "Users, Groups, UIDs and GIDs on
// systemd Systems", which lists it as unused: it lies between the containers of
// systemd and the ids that do not fit into a signed number.
const (
	DefaultFirstID = 1879048192 // 0x70000000
	DefaultLastID  = 2147352575
)

// ErrNoIDs: all ids that sandboxes may have are in use.
var ErrNoIDs = errors.New("no user ids are free for a sandbox")

// Range hands out ids, so that no two sandboxes share any: what the kernel counts
// for each user, such as keys, watches and buffers of pipes, is then each sandbox's
// own. It is safe for concurrent use.
type Range struct {
	first uint32
	slots int

	mu   sync.Mutex
	used map[int]bool
	next int // where the search begins, so that ids rest before they are used again
}

// NewRange returns one of the ids from first to last.
func NewRange(first, last uint32) (*Range, error) {
	slots := 0
	if last > first {
		slots = int((uint64(last) - uint64(first) + 1) / IDsPerSandbox)
	}
	if first == 0 || slots == 0 {
		return nil, fmt.Errorf("ids %d to %d: a sandbox needs %d of them, other than 0", first, last, IDsPerSandbox)
	}
	// Another server, or the one before, began elsewhere.
	return &Range{first: first, slots: slots, used: map[int]bool{}, next: rand.IntN(slots)}, nil
}

// Take returns ids that nobody has, until they are given back.
func (r *Range) Take() (IDs, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.used) == r.slots {
		return IDs{}, fmt.Errorf("%w: %d sandboxes have all from %d on, give them more by FN_SANDBOX_IDS", ErrNoIDs, r.slots, r.first)
	}
	for r.used[r.next] {
		r.next = (r.next + 1) % r.slots
	}
	slot := r.next
	r.used[slot] = true
	r.next = (slot + 1) % r.slots
	return IDs{First: r.first + uint32(slot)*IDsPerSandbox}, nil
}

// Give gives ids back, of which no process is left. None is nothing.
func (r *Range) Give(ids IDs) {
	if !ids.some() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.used, int((ids.First-r.first)/IDsPerSandbox))
}

// openUsers opens the user namespace of a process.
func openUsers(pid int) (*os.File, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return nil, fmt.Errorf("look up a sandbox's user namespace: %w", err)
	}
	return file, nil
}
