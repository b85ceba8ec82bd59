// Function answers what its container was given: the plan, and the limit of processor
// time as the kernel knows it.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func main() {
	listener, err := listen(strings.TrimPrefix(os.Getenv("FN_LISTENER"), "unix:"))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, http.HandlerFunc(answer)))
}

// listen makes the socket under another name first: the server takes it for ready when
// its name is there.
func listen(path string) (net.Listener, error) {
	name := "phony" + filepath.Base(path)
	socket := filepath.Join(filepath.Dir(path), name)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		return nil, err
	}
	return listener, os.Symlink(name, path)
}

func answer(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "plan %s, %s\n", os.Getenv("PLAN"), limit())
}

// limit is what the control group says, of version 2 or 1.
func limit() string {
	quota, period, ok := strings.Cut(read("/sys/fs/cgroup/cpu.max"), " ")
	if !ok {
		quota, period = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
	}
	micros, err := strconv.Atoi(quota)
	every, err2 := strconv.Atoi(period)
	if err != nil || err2 != nil || micros <= 0 || every <= 0 {
		return "all processors"
	}
	return fmt.Sprintf("%d/1000 of a processor", micros*1000/every)
}

func read(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}
