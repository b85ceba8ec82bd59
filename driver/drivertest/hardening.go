package drivertest

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/driver"
)

// view is what the test function tells of its container, for the header
// Testfn-Mode: inspect. The fields are described there.
type view struct {
	UID, GID, PID, PPID int
	Hostname            string
	Status              map[string]string
	Mounts              map[string]string
	Rlimits             map[string][2]uint64
	Cgroup              map[string]string
	Writable, Readable  map[string]bool
	Interfaces          []string
}

// RunHardening tries how far a driver fences containers in, as their processes
// see it, and that the kernel ends those that want too much. Images.Program
// must be the test function of this module.
func RunHardening(t *testing.T, newDriver func(t *testing.T) driver.Driver, images Images) {
	for name, run := range map[string]func(s *suite){
		"FencedContainerIsFenced": fenced,
		"OpenContainerIsOpen":     open,
		"MemoryLimitEndsIt":       outOfMemory,
		"ProcessLimitHolds":       processLimit,
		"LimitOfTmpHolds":         tmpLimit,
		"NetworkIsThereIfWanted":  networked,
	} {
		t.Run(name, func(t *testing.T) {
			run(&suite{T: t, images: images, newDriver: newDriver})
		})
	}
}

// look starts a function and returns its view.
func look(s *suite, change func(spec *driver.Spec)) view {
	s.Helper()
	d := s.driver()
	dir := socketDir(s)
	spec := functionSpec(s, dir)
	change(spec)
	s.start(d, spec)
	awaitSocket(s, dir)
	var v view
	s.must("understand the report", json.Unmarshal([]byte(call(s, dir, "inspect", "")), &v))
	return v
}

func fenced(s *suite) {
	v := look(s, func(spec *driver.Spec) {
		spec.Hostname = "tine-host"
		spec.Limits = driver.Limits{
			MemoryBytes: 64 << 20, MilliCPU: 500, Processes: 50, TmpMiB: 2, TmpInodes: 100, DiskMiB: 512,
			OpenFiles: 350, LockedMemoryBytes: 65536, PendingSignals: 5000, MessageQueueBytes: 819200,
		}
	})
	if v.UID != 1000 || v.GID != 1000 {
		s.Errorf("user %d:%d", v.UID, v.GID)
	}
	if v.PID == 1 || v.PPID != 1 {
		s.Errorf("the function is process %d, a child of %d: there is no init", v.PID, v.PPID)
	}
	if v.Hostname != "tine-host" {
		s.Errorf("host name %q", v.Hostname)
	}
	const none = "0000000000000000"
	wantStatus := map[string]string{
		"CapEff": none, "CapPrm": none, "CapBnd": none, "CapInh": none, "CapAmb": none, "NoNewPrivs": "1",
	}
	if s.images.Seccomp {
		wantStatus["Seccomp"] = "2" // SECCOMP_MODE_FILTER
	} else {
		delete(v.Status, "Seccomp")
	}
	if diff := cmp.Diff(wantStatus, v.Status); diff != "" {
		s.Errorf("status (-want +got)\n%s", diff)
	}
	wantWritable := map[string]bool{"/": false, "/function": false, "/tmp": true, driver.SocketMountPath: true}
	if diff := cmp.Diff(wantWritable, v.Writable); diff != "" {
		s.Errorf("writable (-want +got)\n%s", diff)
	}
	wantRlimits := map[string][2]uint64{
		"nofile": {350, 350}, "memlock": {65536, 65536}, "sigpending": {5000, 5000}, "msgqueue": {819200, 819200},
	}
	if diff := cmp.Diff(wantRlimits, v.Rlimits); diff != "" {
		s.Errorf("limits (-want +got)\n%s", diff)
	}
	for _, option := range []string{"tmpfs", "size=2048k", "nr_inodes=100", "nosuid", "nodev", "noexec"} {
		if !strings.Contains(v.Mounts["/tmp"], option) {
			s.Errorf("/tmp is %q, without %s", v.Mounts["/tmp"], option)
		}
	}
	if diff := cmp.Diff([]string{"lo"}, physical(v.Interfaces)); diff != "" {
		s.Errorf("interfaces (-want +got)\n%s", diff)
	}
	checkMasks(s, v)
	checkCgroup(s, v.Cgroup, "pids.max", "50")
	checkCgroup(s, v.Cgroup, "memory.max", strconv.Itoa(64<<20))
	checkCgroup(s, v.Cgroup, "memory.limit_in_bytes", strconv.Itoa(64<<20))
	checkCgroup(s, v.Cgroup, "memory.memsw.limit_in_bytes", strconv.Itoa(64<<20))
	checkCgroup(s, v.Cgroup, "memory.swap.max", "0")
	checkCgroup(s, v.Cgroup, "cpu.max", "50000 100000")
	checkCgroup(s, v.Cgroup, "cpu.cfs_quota_us", "50000")
	if v.Cgroup["pids.max"] == "" {
		s.Error("the control group cannot be seen")
	}
}

// checkCgroup compares a limit that one of the cgroup versions has.
func checkCgroup(s *suite, cgroup map[string]string, name, want string) {
	s.Helper()
	if got, ok := cgroup[name]; ok && got != want {
		s.Errorf("%s is %q, want %q", name, got, want)
	}
}

// checkMasks is about what would tell of the machine or change it, which not
// even root may see and write.
func checkMasks(s *suite, v view) {
	s.Helper()
	if !v.Readable["/proc/uptime"] {
		s.Error("nothing in /proc can be read, so this shows nothing")
	}
	for path, readable := range v.Readable {
		if readable && path != "/proc/uptime" {
			s.Errorf("%s can be read", path)
		}
	}
	for _, point := range []string{"/proc/sys", "/sys"} {
		if _, options, _ := strings.Cut(v.Mounts[point], " "); !strings.HasPrefix(options, "ro,") {
			s.Errorf("%s is %q, not read-only", point, v.Mounts[point])
		}
	}
}

// physical drops the tunnel interfaces that a kernel shows in each network
// namespace and that lead nowhere.
func physical(interfaces []string) []string {
	var kept []string
	for _, name := range interfaces {
		if name == "lo" || strings.HasPrefix(name, "eth") || strings.HasPrefix(name, "en") {
			kept = append(kept, name)
		}
	}
	return kept
}

func open(s *suite) {
	v := look(s, func(spec *driver.Spec) { spec.Security = driver.Security{NoNetwork: true} })
	if v.UID != 0 || v.PID != 1 || v.Status["NoNewPrivs"] != "0" || !v.Writable["/"] {
		s.Errorf("an open container is fenced in: %+v", v)
	}
	checkMasks(s, v)
}

// processLimit runs what would be a fork bomb, with and without an init.
func processLimit(s *suite) {
	const most, wanted = 30, 200
	d := s.driver()
	for _, init := range []bool{true, false} {
		var out lockedBuffer
		spec := s.spec("fork", strconv.Itoa(wanted))
		spec.Limits.Processes = most
		spec.Security.Init = init
		spec.Stdout = &out
		c := s.start(d, spec)
		exit := s.wait(c)
		made, err := strconv.Atoi(strings.TrimSpace(out.String()))
		if exit.Code != 0 || err != nil || made < 1 || made >= most {
			s.Errorf("init %t: %q processes were made with a limit of %d, %v", init, out.String(), most, exit)
		}
	}
}

func tmpLimit(s *suite) {
	d := s.driver()
	dir := socketDir(s)
	spec := functionSpec(s, dir)
	spec.Limits.TmpMiB = 2
	s.start(d, spec)
	awaitSocket(s, dir)
	for size, fits := range map[int]bool{1 << 20: true, 3 << 20: false} {
		answer := call(s, dir, "", `{"createFile":"/tmp/file","createFileSize":`+strconv.Itoa(size)+`}`)
		if refused := strings.Contains(answer, "no space left"); refused == fits {
			s.Errorf("%d bytes in 2 MiB: %s", size, answer)
		}
	}
}

func networked(s *suite) {
	v := look(s, func(spec *driver.Spec) { spec.Security.NoNetwork = false })
	if len(physical(v.Interfaces)) < 2 {
		s.Errorf("interfaces %q", v.Interfaces)
	}
}

func outOfMemory(s *suite) {
	d := s.driver()
	for _, init := range []bool{true, false} {
		spec := s.spec("fill", strconv.Itoa(256<<20))
		spec.Limits.MemoryBytes = 32 << 20
		spec.Security.Init = init
		c := s.start(d, spec)
		exit := s.wait(c)
		exit.Presumed = false // an engine may be sure or not
		if exit != (driver.Exit{Code: 137, OutOfMemory: true}) {
			s.Errorf("init %t: exit %+v", init, exit)
		}
		if err := c.Remove(s.Context()); err != nil && !errors.Is(err, driver.ErrGone) {
			s.Error(err)
		}
	}
}
