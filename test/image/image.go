// Package image builds container images on a Docker engine for tests and
// examples, from nothing but local files: no registry is asked.
package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"
)

// contentLabel keeps the hash of what an image was built from.
const contentLabel = "tine.content"

// dockerfile is for a static program. The user exists for programs that look
// themselves up.
const (
	dockerfile = `FROM scratch
COPY passwd /etc/passwd
WORKDIR /function
COPY func /function/func
ENTRYPOINT ["/function/func"]
`
	passwd = "root:x:0:0::/:/\nfn:x:1000:1000::/function:/\n"
)

// Build builds an image from files, of which one is the Dockerfile; all are
// executable. If the tag names an image of the same content already, nothing
// is done. The engine is the one of DOCKER_HOST.
func Build(ctx context.Context, tag string, files map[string][]byte) error {
	engine, err := client.New(client.FromEnv)
	if err != nil {
		return fmt.Errorf("build image %s: %w", tag, err)
	}
	defer engine.Close()
	content := hash(files)
	known, err := engine.ImageInspect(ctx, tag)
	if err == nil && known.Config != nil && known.Config.Labels[contentLabel] == content {
		return nil
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("build image %s: %w", tag, err)
	}
	archive, err := pack(files)
	if err != nil {
		return fmt.Errorf("build image %s: %w", tag, err)
	}
	// The engine's own builder: BuildKit would need a session with this process.
	result, err := engine.ImageBuild(ctx, archive, client.ImageBuildOptions{
		Tags: []string{tag}, Remove: true, ForceRemove: true, Version: build.BuilderV1,
		Labels: map[string]string{contentLabel: content},
	})
	if err != nil {
		return fmt.Errorf("build image %s: %w", tag, err)
	}
	if err := follow(result.Body); err != nil {
		return fmt.Errorf("build image %s: %w", tag, err)
	}
	return nil
}

func goFiles(program []byte) map[string][]byte {
	return map[string][]byte{"Dockerfile": []byte(dockerfile), "passwd": []byte(passwd), "func": program}
}

// Compile returns the static program of a Go package, which may be a path. It runs the
// go command in dir, which may be empty for the current directory.
func Compile(ctx context.Context, dir, pkg string) (program []byte, err error) {
	work, err := os.MkdirTemp("", "tine-image-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	path := filepath.Join(work, "func")
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
	command.Dir = dir
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-buildvcs=false")
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile %s: %w: %s", pkg, err, bytes.TrimSpace(output))
	}
	return os.ReadFile(path)
}

func hash(files map[string][]byte) string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "%q %d\n", name, len(files[name]))
		sum.Write(files[name])
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func pack(files map[string][]byte) (io.Reader, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return &archive, nil
}
