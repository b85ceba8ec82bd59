//go:build linux

package native_test

import (
	"maps"
	"testing"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/drivertest"
	"github.com/tinefn/tine/driver/native"
)

// A container that is fenced in reaches nothing at all. This is what root of one
// that is not can do.
var allowedOpen = map[string]string{
	"Kernel/other *":                  "root may be any user of the sandbox",
	"Kernel/capabilities of programs": "root has CAP_SETFCAP, for files of the sandbox",
}

func TestNothingEscapes(t *testing.T) {
	drivertest.RunEscape(t, func(t *testing.T) driver.Driver { return openWith(t, native.UsersAuto) }, images(), drivertest.EscapeOptions{Open: allowedOpen, Exact: true})
}

// Where the kernel has no users for sandboxes, they have the host's.
func TestNothingEscapesWithUsersOfTheHost(t *testing.T) {
	allowed := maps.Clone(allowedOpen)
	maps.Copy(allowed, map[string]string{
		"ProcAndSys/reading /proc/kpage*":   "root of the sandbox is root of the host",
		"ProcAndSys/reading /proc/vmalloc*": "likewise",
		"ProcAndSys/reading /proc/slabinfo": "likewise",
	})
	drivertest.RunEscape(t, func(t *testing.T) driver.Driver { return openWith(t, native.UsersHost) }, images(), drivertest.EscapeOptions{Open: allowed})
}

func openWith(t *testing.T, users native.Users) driver.Driver {
	t.Helper()
	return open(t, func(o *native.Options) { o.Users = users })
}

func TestPageTellsWhatIsReadFromInside(t *testing.T) {
	drivertest.CheckInside(t, func(t *testing.T) driver.Driver { return open(t, nil) }, images(), "../../docs/sandbox.md", 2, "native driver")
}
