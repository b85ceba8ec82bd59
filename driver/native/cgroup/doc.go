// Package cgroup makes the control groups of sandboxes: it limits what their
// processes use, freezes them, counts what they used and ends them.
//
// A [Manager] belongs to one server. Its groups are
//
//	<parent>/<instance>/<name>
//
// in each hierarchy that is needed, made before there is a process for them,
// as with version 1 it takes milliseconds to put a process into a group. What
// is the same for all sandboxes, the access to devices, is set on the group of
// the instance, whose children inherit it. Setting the limits of a group takes
// only a few writes.
//
// The package works on Linux with control groups of version 1, of version 2,
// and with both (hybrid): see [Mode].
package cgroup
