//go:build linux

package cgroup

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // provides DevicesSetV1 and DevicesSetV2
	devices "github.com/opencontainers/cgroups/devices/config"
)

// allowedDevices can be used in a sandbox, and their nodes made, which its init
// does; no others can.
// The numbers are those of Linux's Documentation/admin-guide/devices.txt.
var allowedDevices = []struct {
	name         string
	major, minor int64
}{
	{"null", 1, 3},
	{"zero", 1, 5},
	{"full", 1, 7},
	{"random", 1, 8},
	{"urandom", 1, 9},
	{"tty", 5, 0},
	{"ptmx", 5, 2},
	{"pts/*", 136, devices.Wildcard}, // ptmx gives one of these
}

func deviceRules() []*devices.Rule {
	rules := []*devices.Rule{{
		Type: devices.WildcardDevice, Major: devices.Wildcard, Minor: devices.Wildcard, Permissions: "rwm", Allow: false,
	}}
	for _, device := range allowedDevices {
		rules = append(rules, &devices.Rule{
			Type: devices.CharDevice, Major: device.major, Minor: device.minor, Permissions: "rwm", Allow: true,
		})
	}
	return rules
}

// limitDevices sets which devices the groups below the instance's can use. A
// program of eBPF is in effect for all groups below the one that it is attached
// to, and with both versions saves putting each process into one hierarchy
// more; the rules of version 1 are copied to groups that are made later.
//
// In a user namespace the library does nothing and reports no error; there,
// files of devices can neither be made nor opened but those of a container.
func (m *Manager) limitDevices() error {
	resources := &cgroups.Resources{Devices: deviceRules()}
	if m.tree.mode != V1 {
		err := m.setDevicesV2(filepath.Join(m.tree.core, m.group()), resources)
		if err == nil {
			return nil
		}
		if m.tree.mode == V2 {
			return fmt.Errorf("limit the access to devices by eBPF (needs root, or CAP_BPF and CAP_NET_ADMIN, and a kernel with CONFIG_CGROUP_BPF): %w", err)
		}
		m.log.Info("access to devices is limited by control groups of version 1, as eBPF is not possible", slog.Any("error", err))
		point, err := cgroups.FindCgroupMountpoint("", "devices")
		if err != nil {
			return fmt.Errorf("limit the access to devices: neither eBPF nor the controller of version 1 is there: %w", err)
		}
		m.tree.v1["devices"] = point
		if err := m.tree.make(m.group()); err != nil {
			return err
		}
	}
	if err := cgroups.DevicesSetV1(m.dir("devices"), resources); err != nil {
		return fmt.Errorf("limit the access to devices: %w", err)
	}
	return nil
}
