// Package durable writes files so that neither a crash of the process nor one of
// the machine leaves half of one: content is written aside, synced, and renamed
// into its place, and the directory is synced. A full disk is an error that leaves
// the old content.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// aside is added to the name of a file while its new content is being written.
// What a crash left under such a name is overwritten by the next change.
const aside = ".new"

// Replace gives a file new content as a whole, and the mode perm whatever the umask
// says. Who reads it at the same time sees the old or the new content. Only one
// caller may replace a file at one time.
func Replace(name string, content []byte, perm fs.FileMode) error {
	if err := Write(name+aside, content, perm); err != nil {
		return err
	}
	return Rename(name+aside, name)
}

// Write writes a file, over what is there, and returns when its content is on disk.
// Its name need not be: for that the directory must be synced.
func Write(name string, content []byte, perm fs.FileMode) (err error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := file.Chmod(perm); err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		return err
	}
	return file.Sync()
}

// Rename moves what was written aside to its place, over what is there, and returns
// when that is on disk. Both names must be on one file system.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// SyncDir returns when all names in a directory are on disk as they are now.
func SyncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
