package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// sandboxSettings are those of the native driver.
var sandboxSettings = []Setting{
	{
		"FN_SANDBOX_MIN", groupSandbox, formPoolSize, "8",
		"Sandboxes that are kept ready. More are kept for a while after there were not enough.",
		between(0, maxPreforkPool, func(c *Config, n int) { c.Engine.Sandbox.Min = n }),
	},
	{
		"FN_SANDBOX_MAX", groupSandbox, formPoolSize, "1000",
		"Sandboxes of the pool at most, those in use included; 0 turns the pool off, so that each is made when it is needed.",
		between(0, maxPreforkPool, func(c *Config, n int) { c.Engine.Sandbox.Max = n }),
	},
	{
		"FN_SANDBOX_READY_MAX", groupSandbox, "auto or " + formPoolSize, "auto",
		"Sandboxes that are ready at most. auto takes a twentieth of the memory for functions, for 128 at most, and no fewer than FN_SANDBOX_MIN. Their memory is taken from that for functions.",
		poolSize(func(c *Config) *int { return &c.Engine.Sandbox.MaxReady }),
	},
	{
		"FN_SANDBOX_USERS", groupSandbox, "auto, own or host", "auto",
		"Who users of a sandbox are to the machine: `own`, ids that no other has, by a user namespace; `host`, the machine's own users of that number; `auto`, the first where the kernel allows it.",
		sandboxUsers,
	},
	{
		"FN_SANDBOX_IDS", groupSandbox, "two numbers like 1879048192-2147352575", "",
		"First and last of the machine's user and group ids that sandboxes have, 65536 each. Default: 1879048192-2147352575.", sandboxIDs,
	},
	{
		"FN_SANDBOX_SUBNET", groupSandbox, "IPv4 network like 10.87.0.0/16", "",
		"Where sandboxes get their addresses. Default: 10.87.0.0/16.", sandboxSubnet,
	},
	{
		"FN_SANDBOX_BRIDGE", groupSandbox, "name of an interface", "",
		"Bridge that sandboxes are connected to, made if it is not there. Default: tine0.", text(func(c *Config) *string { return &c.Engine.Sandbox.Bridge }),
	},
	{
		"FN_SANDBOX_DNS", groupSandbox, "list of IPv4 addresses", "",
		"Nameservers of functions. Default: those of the machine that functions can reach.", sandboxDNS,
	},
	{
		"FN_SANDBOX_ALLOW_HOST", groupSandbox, formBool, "false",
		"Let functions connect to the machine's own addresses.", boolean(func(c *Config, b bool) { c.Engine.Sandbox.AllowHost = b }),
	},
	{
		"FN_SANDBOX_ALLOW_PRIVATE", groupSandbox, formBool, "true",
		"Let functions connect to private networks, such as 10.0.0.0/8.", boolean(func(c *Config, b bool) { c.Engine.Sandbox.AllowPrivate = b }),
	},
	{
		"FN_SANDBOX_SOCKETS_INODES", groupSandbox, "whole number from 0", "64",
		"Sockets and other files that a function can have in /tmp/iofs, which is in memory and counts as its; 0 makes that a directory of FN_IOFS_PATH without a limit.",
		whole(func(c *Config, n int64) { c.Engine.Sandbox.SocketInodes = n }),
	},
	{
		"FN_SANDBOX_SOCKETS_BYTES", groupSandbox, formBytes, "65536",
		"Content of files in /tmp/iofs, of which sockets have none; 0 is no limit.", whole(func(c *Config, n int64) { c.Engine.Sandbox.SocketBytes = n }),
	},
}

func sandboxUsers(c *Config, value string) error {
	switch users := SandboxUsers(strings.ToLower(strings.TrimSpace(value))); users {
	case SandboxUsersAuto, SandboxUsersOwn, SandboxUsersHost:
		c.Engine.Sandbox.Users = users
		return nil
	}
	return errors.New("it is neither auto nor own nor host")
}

func sandboxIDs(c *Config, value string) error {
	low, high, found := strings.Cut(value, "-")
	first, firstErr := strconv.ParseUint(strings.TrimSpace(low), 10, 31)
	last, lastErr := strconv.ParseUint(strings.TrimSpace(high), 10, 31)
	if !found || firstErr != nil || lastErr != nil || first == 0 || last < first+65535 {
		return errors.New("it is not the first and the last of at least 65536 ids above 0, like 1879048192-2147352575")
	}
	c.Engine.Sandbox.FirstID, c.Engine.Sandbox.LastID = uint32(first), uint32(last)
	return nil
}

func sandboxDNS(c *Config, value string) error {
	var servers []netip.Addr
	for _, text := range strings.FieldsFunc(value, separates) {
		server, err := netip.ParseAddr(text)
		if err != nil || !server.Is4() {
			return fmt.Errorf("%q is no IPv4 address", text)
		}
		servers = append(servers, server)
	}
	c.Engine.Sandbox.DNS = servers
	return nil
}

func sandboxSubnet(c *Config, value string) error {
	subnet, err := netip.ParsePrefix(strings.TrimSpace(value))
	if err != nil || !subnet.Addr().Is4() {
		return errors.New("it is no IPv4 network")
	}
	c.Engine.Sandbox.Subnet = subnet.Masked()
	return nil
}
