package docker

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/durable"
)

// Each driver has an identifier of its own, which is on all its containers. So
// that a later process can tell the containers of dead ones from all others,
// the identifier stands for a file in the state directory that its process
// keeps locked: a file that can be locked belongs to nobody who lives, however
// it ended, and its identifier is never used again.
//
// Nothing is written into the files. Their names are random, and the
// identifier is a digest of the name and of where the file came to be, so that
// a copy of the directory says nothing about anybody's containers.

// instancesDir is below the state directory.
const instancesDir = "instances"

// identityBytes is the length of identifiers, which are in hexadecimal form.
const identityBytes = 16

// identity is an identifier whose file is locked by this process. Without a
// file, nobody will remove what carries it.
type identity struct {
	id   string
	lock *os.File // nil: there is no file, or it was given up
}

// newIdentity makes one. If there can be no file for it, the identity can be
// used all the same, and the error says why.
func newIdentity(stateDir string) (*identity, error) {
	if stateDir == "" {
		return &identity{id: randomID()}, nil
	}
	made, err := makeIdentity(filepath.Join(stateDir, instancesDir))
	if err != nil {
		return &identity{id: randomID()}, err
	}
	return made, nil
}

func makeIdentity(dir string) (*identity, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// A process that starts at the same time may take the new file for one of a
	// dead process, and delete it, before it is locked.
	const attempts = 10
	for range attempts {
		path := filepath.Join(dir, randomID())
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		made, err := lockIdentity(path, file)
		if err != nil {
			return nil, errors.Join(err, os.Remove(path))
		}
		if made != nil {
			// Containers outlive a sudden end of the machine. A file system that
			// cannot sync keeps the file nearly always all the same.
			_ = durable.SyncDir(dir)
			return made, nil
		}
	}
	return nil, fmt.Errorf("each new file in %s was taken by another process", dir)
}

// deadIdentities locks and returns the identities of processes that are dead.
// They are there also if there is an error, about others.
func deadIdentities(stateDir string) ([]*identity, error) {
	if stateDir == "" {
		return nil, nil
	}
	dir := filepath.Join(stateDir, instancesDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil // whether there can be one is newIdentity's to tell
	}
	if err != nil {
		return nil, err
	}
	var (
		dead   []*identity
		failed []error
	)
	for _, entry := range entries {
		if raw, err := hex.DecodeString(entry.Name()); err != nil || len(raw) != identityBytes || !entry.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		file, err := os.OpenFile(path, os.O_RDWR, 0) // NFS locks only what may be written
		if errors.Is(err, fs.ErrNotExist) {
			continue // its process, or another one's sweep, has just ended
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		found, err := lockIdentity(path, file)
		if err != nil {
			failed = append(failed, err)
		}
		if found != nil {
			dead = append(dead, found)
		}
	}
	return dead, errors.Join(failed...)
}

// lockIdentity takes the identity of an open file. It returns nil, and closes
// the file, if another process has it, or has deleted it.
func lockIdentity(path string, file *os.File) (*identity, error) {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, file.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	opened, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if there, err := os.Lstat(path); err != nil || !os.SameFile(opened, there) {
		return nil, file.Close()
	}
	origin, err := originOf(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tell the origin of %s: %w", path, err), file.Close())
	}
	digest := sha256.Sum256([]byte(filepath.Base(path) + " " + origin))
	return &identity{id: hex.EncodeToString(digest[:identityBytes]), lock: file}, nil
}

// deviceOf tells a file from its copies by where it is.
func deviceOf(file *os.File) (string, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return "", err
	}
	return fmt.Sprintf("inode %d device %d", stat.Ino, stat.Dev), nil
}

// discard deletes the file: no container carries the identity any more.
func (i *identity) discard() error {
	if i.lock == nil {
		return nil
	}
	err := os.Remove(i.lock.Name()) // before anybody else can lock it
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // somebody has deleted the state directory
	}
	return errors.Join(err, i.release())
}

// release leaves the file to whoever starts next. It may be repeated.
func (i *identity) release() error {
	if i.lock == nil {
		return nil
	}
	lock := i.lock
	i.lock = nil
	return lock.Close()
}

func randomID() string {
	var id [identityBytes]byte
	_, _ = rand.Read(id[:]) // cannot fail
	return hex.EncodeToString(id[:])
}
