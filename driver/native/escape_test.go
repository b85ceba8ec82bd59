//go:build linux

package native_test

import (
	"testing"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/drivertest"
)

// A container that is fenced in reaches nothing at all.
func TestNothingEscapes(t *testing.T) {
	drivertest.RunEscape(t, func(t *testing.T) driver.Driver { return open(t, nil) }, images(), drivertest.EscapeOptions{
		Open: map[string]string{
			"Kernel/other *":                    "root may be any user of the sandbox",
			"Kernel/capabilities of programs":   "root has CAP_SETFCAP, for files of the sandbox",
			"ProcAndSys/reading /proc/kpage*":   "root of the sandbox is root of the host",
			"ProcAndSys/reading /proc/vmalloc*": "likewise",
			"ProcAndSys/reading /proc/slabinfo": "likewise",
		},
	})
}

func TestPageTellsWhatIsReadFromInside(t *testing.T) {
	drivertest.CheckInside(t, func(t *testing.T) driver.Driver { return open(t, nil) }, images(), "../../docs/sandbox.md", 2, "native driver")
}
