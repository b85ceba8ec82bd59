package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/tinefn/tine/test/image"
)

// functionImage is rebuilt when the test function changed.
const functionImage = "tine-bench/testfn:1"

const dockerfile = `FROM scratch
WORKDIR /function
COPY func /function/func
ENTRYPOINT ["/function/func"]
`

// build makes the programs and the image of the test function.
func (b *bench) build(ctx context.Context) error {
	b.server = filepath.Join(b.dir, "fnserver")
	if err := goBuild(ctx, nil, "-o", b.server, "github.com/tinefn/tine/cmd/fnserver"); err != nil {
		return err
	}
	b.function = filepath.Join(b.dir, "func")
	err := goBuild(ctx, []string{"CGO_ENABLED=0", "GOOS=linux"}, "-trimpath", "-ldflags", "-s -w", "-o", b.function, "github.com/tinefn/tine/test/testfn")
	if err != nil {
		return err
	}
	// The very bytes that run as plain processes behind the yardstick.
	program, err := os.ReadFile(b.function)
	if err != nil {
		return err
	}
	b.image = functionImage
	return image.Build(ctx, b.image, map[string][]byte{"Dockerfile": []byte(dockerfile), "func": program})
}

func goBuild(ctx context.Context, environ []string, args ...string) error {
	command := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
	command.Env = append(os.Environ(), environ...)
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %s: %w: %s", args[len(args)-1], errors.Join(err, ctx.Err()), bytes.TrimSpace(output))
	}
	return nil
}

// makeDir makes a directory with a short name.
func (b *bench) makeDir() (string, error) {
	b.made++
	dir := filepath.Join(b.dir, strconv.Itoa(b.made))
	return dir, os.Mkdir(dir, 0o700)
}
