//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// write writes a value to a file of a control group, in one write(2) as the
// kernel wants it, and never makes the file. It does without os.File, whose
// registration with the poller takes as long as the write.
func write(dir, file, value string) error {
	path := dir + "/" + file
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		_, err = unix.Write(fd, []byte(value))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("write %q to %s: %w", value, path, err)
		default:
			return nil
		}
	}
}

// readNumber reads a file that has one number.
func readNumber(dir, file string) (uint64, error) {
	text, err := os.ReadFile(dir + "/" + file)
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s/%s: %w", dir, file, err)
	}
	return number, nil
}

// readField reads a number from a file that has lines of a name, a space and a
// number.
func readField(dir, file, name string) (uint64, error) {
	text, err := os.ReadFile(dir + "/" + file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(line, name+" ")
		if !ok {
			continue
		}
		number, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s/%s: %s: %w", dir, file, name, err)
		}
		return number, nil
	}
	return 0, fmt.Errorf("%s/%s has no %s: the kernel is too old", dir, file, name)
}

// isGone reports whether an error means that a group was removed, before or
// after its file was opened.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
