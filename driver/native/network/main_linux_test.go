package network

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// insideVariable tells the test binary that it is in a namespace of its own.
const insideVariable = "TINE_TEST_NETWORK_NAMESPACE"

// TestMain runs the tests in a network namespace of their own, so that they
// find no bridge and no rule of the machine's, and leave none.
func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) == "" && os.Geteuid() == 0 {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), insideVariable+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		if err == nil {
			_ = cmd.Wait()
			os.Exit(cmd.ProcessState.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "no network namespace can be made, so tests that need one are skipped:", err)
	}
	goleak.VerifyTestMain(m)
}

// needNamespace skips a test that would change the machine's network.
func needNamespace(t testing.TB) {
	t.Helper()
	if os.Getenv(insideVariable) == "" {
		t.Skip("needs root, to make network namespaces")
	}
}
