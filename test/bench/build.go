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

	"github.com/tinefn/tine/test/functions"
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
	// As make build puts it.
	init := filepath.Join(b.dir, "sandbox-init")
	err := goBuild(ctx, []string{"CGO_ENABLED=0"}, "-trimpath", "-ldflags", "-s -w", "-o", init, "github.com/tinefn/tine/cmd/sandbox-init")
	if err != nil {
		return err
	}
	b.function = filepath.Join(b.dir, "func")
	err = goBuild(ctx, []string{"CGO_ENABLED=0", "GOOS=linux"}, "-trimpath", "-ldflags", "-s -w", "-o", b.function, "github.com/tinefn/tine/test/testfn")
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

// installPackages installs packages of Debian.
func installPackages(ctx context.Context, names ...string) error {
	if os.Geteuid() != 0 {
		return errors.New("-install needs root")
	}
	command := exec.CommandContext(ctx, "apt-get", append([]string{"install", "-y", "--no-install-recommends"}, names...)...)
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get install %v: %w: %s", names, err, output)
	}
	return nil
}

// buildLanguages makes images of the examples in all languages.
func (b *bench) buildLanguages(ctx context.Context, install bool) error {
	b.examples = map[functions.Language]string{}
	for _, language := range []functions.Language{functions.Go, functions.Node, functions.Python} {
		ref, err := functions.Load(ctx, language, functions.ExampleDir(language))
		if errors.Is(err, functions.ErrMissing) && install {
			b.progress.show("installing node, npm and python3")
			if err := installPackages(ctx, "nodejs", "npm", "python3"); err != nil {
				return err
			}
			ref, err = functions.Load(ctx, language, functions.ExampleDir(language))
		}
		if err != nil {
			return err
		}
		b.examples[language] = ref
	}
	return nil
}
