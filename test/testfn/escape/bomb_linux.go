package escape

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Order asks for too much of something.
type Order struct {
	Kind string `json:"kind"` // one of bombs
	Many int    `json:"many"` // how much at most
}

// Made is how much there was to have. It is kept until the process ends.
type Made struct {
	Count   int    `json:"count"`
	Refusal string `json:"refusal"` // error at the end; empty: it got all
}

// bombs take one more of something each time they are called.
var bombs = map[string]func() func(i int) error{
	"memory":       func() func(int) error { return takeMemory },
	"tmp":          func() func(int) error { return fileIn("/tmp") },
	"shm":          func() func(int) error { return fileIn("/dev/shm") },
	"memfd":        memoryFile,
	"pipes":        func() func(int) error { return takePipe },
	"sockets":      func() func(int) error { return takeSocket },
	"queues":       func() func(int) error { return takeQueue },
	"sysv-shm":     func() func(int) error { return takeShared },
	"sysv-sem":     func() func(int) error { return takeSemaphores },
	"descriptors":  func() func(int) error { return takeDescriptor },
	"inodes-tmp":   func() func(int) error { return filesIn("/tmp") },
	"inodes-iofs":  func() func(int) error { return filesIn(socketDir) },
	"space-iofs":   func() func(int) error { return fileIn(socketDir) },
	"locks":        locks,
	"watches":      watches,
	"odd-iofs":     func() func(int) error { return oddities },
	"nesting-iofs": nesting,
}

// Explode reads an order as JSON, takes what it asks for, and writes how much
// that was. "fork" does not return.
func Explode(r io.Reader, w io.Writer) error {
	var order Order
	if err := json.NewDecoder(r).Decode(&order); err != nil {
		return fmt.Errorf("read what is to be taken: %w", err)
	}
	if order.Kind == "fork" {
		forkForEver()
	}
	bomb, ok := bombs[order.Kind]
	if !ok {
		return fmt.Errorf("there is no bomb %q", order.Kind)
	}
	debug.SetGCPercent(-1) // nothing is given back
	var made Made
	for take := bomb(); made.Count < order.Many; made.Count++ {
		if err := take(made.Count); err != nil {
			made.Refusal = err.Error()
			break
		}
	}
	return json.NewEncoder(w).Encode(made)
}

// forkForEver makes processes that do the same, as the shell's well-known one.
func forkForEver() {
	for {
		_, _, _ = unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	}
}

// unit is what bombs of memory take at a time.
const unit = 1 << 20

var kept [][]byte

func takeMemory(int) error {
	block := make([]byte, unit)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	kept = append(kept, block)
	return nil
}

// fileIn makes a file grow.
func fileIn(dir string) func(int) error {
	file, err := os.OpenFile(filepath.Join(dir, "bomb"), os.O_CREATE|os.O_WRONLY, 0o600)
	return grow(file, err)
}

func memoryFile() func(int) error {
	fd, err := unix.MemfdCreate("bomb", unix.MFD_CLOEXEC)
	return grow(os.NewFile(uintptr(max(fd, 0)), "bomb"), err)
}

func grow(file *os.File, err error) func(int) error {
	block := make([]byte, unit)
	return func(int) error {
		if err != nil {
			return err
		}
		_, err := file.Write(block)
		return err
	}
}

func takePipe(int) error {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return err
	}
	_, _ = unix.FcntlInt(uintptr(ends[0]), unix.F_SETPIPE_SZ, unit) // the usual size is some memory too
	return pour(ends[1])
}

func takeSocket(int) error {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return pour(ends[0])
}

// pour writes until nothing fits in.
func pour(fd int) error {
	block := make([]byte, 64<<10)
	for {
		switch _, err := unix.Write(fd, block); err {
		case nil:
		case unix.EAGAIN:
			return nil
		default:
			return err
		}
	}
}

// takeQueue makes a message queue with one message of the usual size.
func takeQueue(i int) error {
	name := append([]byte("bomb"+strconv.Itoa(i)), 0)
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(&name[0])), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	message := make([]byte, 8192)
	return call(unix.SYS_MQ_TIMEDSEND, fd, uintptr(unsafe.Pointer(&message[0])), uintptr(len(message)), 0, 0)
}

func takeShared(int) error {
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, unit, unix.IPC_CREAT|0o600)
	if err != nil {
		return err
	}
	block, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return err
	}
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	return nil
}

func takeSemaphores(int) error {
	return call(unix.SYS_SEMGET, unix.IPC_PRIVATE, 1000, unix.IPC_CREAT|0o600)
}

func takeDescriptor(int) error {
	_, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return err
}

func filesIn(dir string) func(int) error {
	return func(i int) error {
		fd, err := unix.Open(filepath.Join(dir, "bomb"+strconv.Itoa(i)), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
}

// locks locks every other byte of a file in the socket directory, which is the
// host's: locks that touch would become one.
func locks() func(int) error {
	file, err := os.OpenFile(filepath.Join(socketDir, "locked"), os.O_CREATE|os.O_RDWR, 0o600)
	return func(i int) error {
		if err != nil {
			return err
		}
		return unix.FcntlFlock(file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: int64(2 * i), Len: 1})
	}
}

// watches makes instances of inotify, of which each user has few.
func watches() func(int) error {
	return func(int) error {
		_, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		return err
	}
}

// oddities are what may be in the way of who removes the socket directory.
func oddities(i int) error {
	name := filepath.Join(socketDir, "odd"+strconv.Itoa(i))
	switch i % 7 {
	case 0: // a directory that nobody may enter, with something in it
		return errors.Join(os.Mkdir(name, 0o700), os.WriteFile(name+"/file", nil, 0o600), os.Mkdir(name+"/dir", 0), os.Chmod(name, 0)) //nolint:gosec // as a function may
	case 1:
		return unix.Mkfifo(name, 0)
	case 2: // bytes that are no text
		return os.WriteFile(name+"\n\xff\x01*?[\\ ", nil, 0)
	case 3:
		return os.Symlink("..", name)
	case 4:
		return os.Symlink("/etc/passwd", name)
	case 5:
		listener, err := net.Listen("unix", name)
		if err == nil {
			kept = append(kept, nil)
			_, err = listener.(*net.UnixListener).File()
		}
		return err
	default:
		return os.Link(filepath.Join(socketDir, "odd1"), name)
	}
}

// nesting makes directories in each other.
func nesting() func(int) error {
	fd, err := unix.Open(socketDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return func(int) error {
		if err != nil {
			return err
		}
		if err := unix.Mkdirat(fd, "d", 0o700); err != nil {
			return err
		}
		next, err := unix.Openat(fd, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Close(fd)
		fd = next
		return err
	}
}
