package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tinefn/tine/internal/durable"
)

// noSpace gives the error of a full disk its next step, and leaves others as
// they are.
func (s *Store) noSpace(err error) error {
	if err == nil || errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	also := ""
	switch {
	case s.opts.MakeRoom != nil:
		also = " (no image can be removed)"
	case s.opts.CleanSetting != "":
		also = ", set " + s.opts.CleanSetting + " to have unused images removed,"
	}
	return fmt.Errorf("%w in %s: free space there%s or set %s to a directory with more of it: %w",
		ErrNoSpace, s.dir, also, s.opts.Setting, err)
}

// step is a point between two changes of the disk. Tests make it fail there, or
// kill the process.
func (s *Store) step(name string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(name)
}

// place moves what was written aside to its place, and makes that last.
func (s *Store) place(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return durable.Rename(from, to)
}

// writeFile replaces a small file as a whole.
func (s *Store) writeFile(path string, content []byte) (err error) {
	file, err := os.CreateTemp(s.path(tmpDir), "file-")
	if err != nil {
		return s.noSpace(err)
	}
	defer func() {
		if err != nil {
			err = s.noSpace(errors.Join(err, os.Remove(file.Name())))
		}
	}()
	if err = errors.Join(file.Close(), durable.Write(file.Name(), content, 0o600)); err != nil {
		return err
	}
	if err := s.step("file written " + filepath.Base(filepath.Dir(path))); err != nil {
		return err
	}
	return s.place(file.Name(), path)
}
