// Package seccomp compiles the profile that Docker gives to containers by
// default into a filter for seccomp(2), without libseccomp and so without cgo.
//
// The profile's data is that of github.com/moby/profiles/seccomp, in the form
// of the OCI runtime specification. The result is classic BPF, an array of
// struct sock_filter, that decides about each system call from struct
// seccomp_data (linux/seccomp.h). It does what runc makes of the same profile
// for a container without any capability, with the differences that
// [Default] names.
//
// The package works on Linux, for processes of amd64 and arm64.
package seccomp
