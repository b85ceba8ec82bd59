package docker_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver/drivertest"
)

// What Docker's defaults let containers do. Newer engines let them do less.
var (
	allowedFenced = map[string]string{
		"Processes/trace process 1":             "the init is a process of the container's user",
		"Processes/memory file of process 1":    "likewise",
		"Processes/environment of process 1":    "likewise",
		"Processes/read memory of process 1":    "likewise",
		"Processes/descriptors of process 1":    "likewise",
		"Sockets/the virtual machine's host":    "profiles of engines before 26 know no families of sockets",
		"RawSockets/kernel's ciphers":           "likewise, before 29",
		"Kernel/rings":                          "profiles of engines before 25 allow io_uring",
		"Cgroups/the names of groups above":     "containers have no namespace for control groups of version 1",
		"ProcAndSys/reading /proc/interrupts":   "engines before 28 do not mask it",
		"Network/tcp to the host's addresses":   "containers of the default bridge reach the host",
		"Network/udp to the host's addresses":   "likewise",
		"Network/tcp to the metadata service":   "it is outside, as all else; here the host has its address",
		"Network/udp to the metadata service":   "likewise",
		"Network/tcp to another container":      "containers of the default bridge reach each other",
		"Network/udp to another container":      "likewise",
		"Network/tcp to the host's link-local*": "if the bridge has IPv6",
		"Network/udp to the host's link-local*": "likewise",
	}
	allowedOpen = map[string]string{
		"Devices/tunnel in *":                 "the engine allows the device, and the network is the container's",
		"Kernel/other *":                      "root may be any user of the container",
		"Kernel/capabilities of programs":     "root has CAP_SETFCAP, for files of the container",
		"RawSockets/*":                        "root has CAP_NET_RAW",
		"Cgroups/making a group":              "/sys/fs/cgroup is a file system in memory of the container",
		"ProcAndSys/reading /proc/kpage*":     "root of the container is root of the host",
		"ProcAndSys/reading /proc/vmalloc*":   "likewise",
		"ProcAndSys/reading /proc/slabinfo":   "likewise",
		"Sockets/the virtual machine's host":  allowedFenced["Sockets/the virtual machine's host"],
		"Kernel/rings":                        allowedFenced["Kernel/rings"],
		"Cgroups/the names of groups above":   allowedFenced["Cgroups/the names of groups above"],
		"ProcAndSys/reading /proc/interrupts": allowedFenced["ProcAndSys/reading /proc/interrupts"],
		"Network/*":                           "as for those that are fenced in",
	}
)

func TestNothingEscapes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("what is to be out of reach is made by root")
	}
	drivertest.RunEscape(t, newDriver, images(t), drivertest.EscapeOptions{Fenced: allowedFenced, Open: allowedOpen})
}

func TestPageTellsWhatIsReadFromInside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("what is to be out of reach is made by root")
	}
	with := images(t) // which also skips the test if there is no engine
	info, err := engineClient(t).Info(t.Context(), client.InfoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	number, rest, _ := strings.Cut(info.Info.ServerVersion, ".")
	second, _, _ := strings.Cut(rest, ".")
	title := fmt.Sprintf("Docker driver, engine %s.%s, control groups of version %s", number, second, info.Info.CgroupVersion)
	drivertest.CheckInside(t, newDriver, with, "../../docs/sandbox.md", 1, title)
}
