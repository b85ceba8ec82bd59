package docker

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

func TestPauseProgramIsAnExecutable(t *testing.T) {
	for name, pause := range pauseCode {
		t.Run(name, func(t *testing.T) {
			program := pauseProgram(pause.machine, pause.code)
			if len(program) > 200 {
				t.Errorf("%d bytes", len(program))
			}
			file, err := elf.NewFile(bytes.NewReader(program))
			if err != nil {
				t.Fatal(err)
			}
			if file.Machine != elf.Machine(pause.machine) || file.Type != elf.ET_EXEC || len(file.Progs) != 1 {
				t.Errorf("%+v", file.FileHeader)
			}
			segment := file.Progs[0]
			if segment.Flags != elf.PF_R|elf.PF_X || segment.Filesz != uint64(len(program)) {
				t.Errorf("%+v", segment.ProgHeader)
			}
			code := program[file.Entry-segment.Vaddr:]
			if !bytes.Equal(code, pause.code) {
				t.Errorf("it begins at %#x", file.Entry)
			}
		})
	}
}

func TestPauseProgramSleepsUntilItIsKilled(t *testing.T) {
	for _, pause := range pauseCode {
		if pause.goarch != runtime.GOARCH {
			continue
		}
		path := filepath.Join(t.TempDir(), "pause")
		if err := os.WriteFile(path, pauseProgram(pause.machine, pause.code), 0o700); err != nil {
			t.Fatal(err)
		}
		program := exec.Command(path)
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- program.Wait() }()
		select {
		case err := <-ended:
			t.Fatalf("it ends by itself: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		// A stop and continue interrupts the system call.
		for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
			if err := program.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case err := <-ended:
			t.Fatalf("it ends when it is interrupted: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		if err := program.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if exit, ok := errors.AsType[*exec.ExitError](<-ended); !ok || exit.ExitCode() != -1 {
			t.Errorf("it ended with %v", exit)
		}
		return
	}
	t.Skipf("there is no program for %s", runtime.GOARCH)
}

func TestPauseImageIsTheSameEachTime(t *testing.T) {
	for name := range pauseCode {
		image, tag, err := pauseImage(name)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := pauseImage(name)
		if err != nil {
			t.Fatal(err)
		}
		first, err1 := image.Digest()
		second, err2 := again.Digest()
		if err := errors.Join(err1, err2); err != nil || first != second {
			t.Errorf("%s and %s, %v", first, second, err)
		}
		if tag.String() == "" {
			t.Error("it has no name")
		}
	}
	if _, _, err := pauseImage("m68k"); err == nil {
		t.Error("there is one for every processor")
	}
}
