package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// node is a running server with a database and a directory of its own.
type node struct {
	*process
	address string // host:port
	dir     string // its own
	bench   *bench
	tag     string // marks its containers

	settings map[string]string // that it was started with, beyond what all have
}

// startNode starts a full node that has room for 16 instances, with settings
// on top. What they are not about is left at its default.
func (b *bench) startNode(ctx context.Context, settings map[string]string) (*node, error) {
	n, err := b.launchNode(settings)
	if err != nil {
		return nil, err
	}
	if err := n.awaitServing(ctx, 10*time.Millisecond); err != nil {
		return nil, errors.Join(err, n.abandon())
	}
	if err := n.checkSettings(settings); err != nil {
		return nil, errors.Join(err, n.stop())
	}
	return n, nil
}

// launchNode starts the server without waiting until it serves.
func (b *bench) launchNode(settings map[string]string) (*node, error) {
	dir, err := b.makeDir()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	n := &node{address: "127.0.0.1:" + port, dir: dir, bench: b, settings: settings, tag: "bench-" + filepath.Base(b.dir) + "-" + filepath.Base(dir)}
	sockets := filepath.Join(dir, socketsDir)
	if err := os.Mkdir(sockets, 0o700); err != nil {
		return nil, err
	}
	all := map[string]string{
		"FN_HOST": "127.0.0.1", "FN_PORT": port, "FN_DB_URL": "sqlite3://" + filepath.Join(dir, "fn.db"),
		// What auto means depends on the machine. Rows about the other driver, and about the pool, set them.
		"FN_DRIVER": "docker", "FN_PREFORK_MAX": "0",
		"FN_POOL_APP_SHARE": "100", // all functions of a node are of one app
		"FN_IOFS_PATH":      sockets, "FN_CONTAINER_LABEL_TAG": n.tag,
		"FN_MAX_TOTAL_MEMORY_BYTES": fmt.Sprint(instances * functionMemoryMiB * mebibyte),
		"FN_POOL_CPU_PRESSURE":      "100", // the row before must not keep the pool empty
	}
	if kind := settings["FN_NODE_TYPE"]; kind == "lb" || kind == "pure-runner" {
		delete(all, "FN_DB_URL") // they keep no definitions
	}
	maps.Copy(all, settings)
	cmd := exec.Command(b.server) // it is stopped in order, not killed with a context
	cmd.Dir = dir
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "FN_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	for name, value := range all {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	n.process, err = startProcess("the server", filepath.Join(dir, "log"), cmd)
	return n, err
}

// socketsDir is where a node's instances have their sockets.
const socketsDir = "s"

// sockets are those of all instances.
func (n *node) sockets() ([]string, error) {
	return filepath.Glob(filepath.Join(n.dir, socketsDir, "*", "*", "lsnr.sock"))
}

// freePort returns a port that was free just now.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, errors.Join(err, listener.Close())
}

// awaitServing waits until the server answers to /version.
func (n *node) awaitServing(ctx context.Context, every time.Duration) error {
	caller := newCaller(n.address)
	defer caller.close()
	request := buildRequest("GET", "/version", "", nil)
	return n.await(ctx, every, func() (bool, error) {
		got, err := caller.do(ctx, request, nil)
		return err == nil && got.status == http.StatusOK, nil // not yet
	})
}

// checkSettings makes sure that the server acts on what it was given: it warns
// of names that it does not know, and goes on.
func (n *node) checkSettings(settings map[string]string) error {
	log, err := os.ReadFile(n.log)
	if err != nil {
		return err
	}
	for row := range bytes.Lines(log) {
		for name := range settings {
			if bytes.Contains(row, []byte("level=WARN")) && bytes.Contains(row, []byte(name)) {
				return fmt.Errorf("this server does not act on %s: %s", name, bytes.TrimSpace(row))
			}
		}
	}
	return nil
}

// stop ends the server, which removes its containers, and makes sure that it
// did.
func (n *node) stop() error {
	err := n.process.stop()
	left, removeErr := n.bench.removeContainers(n.tag)
	if left > 0 {
		err = errors.Join(err, fmt.Errorf("the server left %d containers behind", left))
	}
	return errors.Join(err, removeErr)
}

// abandon ends a server that did not come to serve. Why is known already.
func (n *node) abandon() error {
	_ = n.process.stop()
	_, err := n.bench.removeContainers(n.tag)
	return err
}

// nativeSettings are those of a node with the native driver. Nodes that run at the same
// time have numbers, as each has its network.
func nativeSettings(number int) map[string]string {
	return map[string]string{
		"FN_DRIVER": "native", "FN_SANDBOX_BRIDGE": fmt.Sprintf("tinebench%d", number), "FN_SANDBOX_SUBNET": fmt.Sprintf("10.85.%d.0/20", 16*number),
	}
}
