package sandbox

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Go's syscall package makes a pipe by which it tells a child that its ids are set, and
// does not close it if the kernel refuses to make the child (forkAndExecInChild in its
// exec_linux.go, as of Go 1.26). A machine with no process left would so take two
// descriptors from the server for each attempt, until it has none either.

// pipeID tells pipes apart.
type pipeID struct{ dev, inode uint64 }

// selfPipe is a pipe of which this process has both ends.
type selfPipe struct{ reader, writer int }

// selfPipes lists the pipes of which this process has both ends and that it would wait
// for: what Go's other packages make is either not waited for, or gone in a moment.
func selfPipes() map[pipeID]selfPipe {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil // there is nothing left to look with
	}
	readers, found := map[pipeID]int{}, map[pipeID]selfPipe{}
	writers := map[pipeID]int{}
	for _, name := range names {
		fd, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		target, err := os.Readlink("/proc/self/fd/" + name.Name())
		if err != nil || !strings.HasPrefix(target, "pipe:[") {
			continue
		}
		var stat unix.Stat_t
		status, statusErr := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		flags, flagsErr := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if unix.Fstat(fd, &stat) != nil || statusErr != nil || flagsErr != nil || status&unix.O_NONBLOCK != 0 || flags&unix.FD_CLOEXEC == 0 {
			continue
		}
		id := pipeID{stat.Dev, stat.Ino}
		if status&unix.O_ACCMODE == unix.O_RDONLY {
			readers[id] = fd
		} else {
			writers[id] = fd
		}
	}
	for id, reader := range readers {
		if writer, ok := writers[id]; ok {
			found[id] = selfPipe{reader, writer}
		}
	}
	return found
}

// settle is how long others may have both ends of a pipe that they have just made. It
// takes them microseconds.
const settle = 20 * time.Millisecond

// closeLeftPipes closes the pipe of a start that the kernel has refused. Those that
// were there when the Spawner was made are somebody else's.
func (s *Spawner) closeLeftPipes() {
	syscall.ForkLock.Lock() // nobody else is starting a process, and has such a pipe for that
	defer syscall.ForkLock.Unlock()
	before := selfPipes()
	time.Sleep(settle)
	after := selfPipes()
	for id, pipe := range before {
		if _, foreign := s.foreign[id]; !foreign && after[id] == pipe {
			_, _ = unix.Close(pipe.reader), unix.Close(pipe.writer)
		}
	}
}
