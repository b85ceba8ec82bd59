package sandbox

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// selfPipeOf makes a pipe as Go's syscall package does.
func selfPipeOf(t *testing.T, flags int) (ends [2]int) {
	t.Helper()
	if err := unix.Pipe2(ends[:], flags); err != nil {
		t.Fatal(err)
	}
	return ends
}

// closeAll closes descriptors that are open.
func closeAll(fds ...int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

func TestOnlyTheLeftPipeIsClosed(t *testing.T) {
	foreign := selfPipeOf(t, unix.O_CLOEXEC)
	defer closeAll(foreign[:]...)
	s := &Spawner{foreign: selfPipes()}
	if len(s.foreign) == 0 {
		t.Fatal("no pipe is seen, so this shows nothing")
	}
	polled := selfPipeOf(t, unix.O_CLOEXEC|unix.O_NONBLOCK)
	inherited := selfPipeOf(t, 0)
	half := selfPipeOf(t, unix.O_CLOEXEC)
	_ = unix.Close(half[0])
	defer closeAll(polled[0], polled[1], inherited[0], inherited[1], half[1])
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	left := selfPipeOf(t, unix.O_CLOEXEC)
	s.closeLeftPipes()
	for _, fd := range []int{foreign[0], foreign[1], polled[0], polled[1], inherited[0], inherited[1], half[1]} {
		if !isOpen(fd) {
			t.Errorf("descriptor %d is closed, of %v, %v, %v and %v", fd, foreign, polled, inherited, half)
		}
	}
	if isOpen(left[0]) || isOpen(left[1]) {
		t.Error("what was left is open")
	}
	if _, err := writer.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}
