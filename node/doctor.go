package node

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/internal/config"
)

// Doctor writes what each driver finds on this machine, and which of them a node
// with these settings uses. It tells whether that one works. The error is of wrong
// settings, or of writing.
func Doctor(ctx context.Context, opts Options, w io.Writer) (works bool, err error) {
	cfg, _, err := config.Load(opts.Environ, os.ReadFile, opts.Dir)
	if err != nil {
		return false, fmt.Errorf("wrong settings:\n%w", err)
	}
	examined := []struct {
		name     string
		findings []driver.Finding
	}{
		{config.DriverNative, examineNative(ctx, cfg)},
		{config.DriverDocker, docker.Examine(ctx, dockerConnection(cfg))},
	}
	out := &report{w: w}
	ok := map[string]bool{}
	for _, one := range examined {
		ok[one.name] = driver.Works(one.findings)
		out.driver(one.name, ok[one.name], one.findings)
	}
	used, why := chosen(cfg, ok)
	switch {
	case used == "":
		out.printf("No driver works here: mend what is missing above, for the native driver or for Docker.\n")
	case !ok[used]:
		out.printf("This server would use %s, %s, which does not work: mend what is missing above, or change that.\n", used, why)
	default:
		out.printf("This server uses %s, %s.\n", used, why)
	}
	return ok[used], out.err
}

// chosen is what openNamed uses, as far as it works.
func chosen(c *config.Config, works map[string]bool) (name, why string) {
	if named := c.Engine.Driver; named != config.DriverAuto {
		return named, "by FN_DRIVER=" + named
	}
	if setting := dockerOnly(c); setting != "" {
		return config.DriverDocker, "as " + setting + " is for it alone"
	}
	for _, name := range []string{config.DriverNative, config.DriverDocker} {
		if works[name] {
			return name, "by FN_DRIVER=auto"
		}
	}
	return "", ""
}

// dockerConnection is how the engine is reached.
func dockerConnection(c *config.Config) docker.Options {
	return docker.Options{
		Host: c.Engine.Host, CertPath: c.Engine.CertPath, TLSVerify: c.Engine.TLSVerify, CallTimeout: c.Engine.CallTimeout,
		Runtime: c.Engine.Runtime, Runtimes: c.Engine.Runtimes,
	}
}

// report writes until the first error.
type report struct {
	w   io.Writer
	err error
}

func (r *report) printf(format string, args ...any) {
	if r.err == nil {
		_, r.err = fmt.Fprintf(r.w, format, args...)
	}
}

func (r *report) driver(name string, works bool, findings []driver.Finding) {
	r.printf("%s: %s\n", name, map[bool]string{true: "works", false: "does not work"}[works])
	for _, found := range findings {
		state, text := "ok", found.Detail
		if found.Err != nil {
			state, text = "missing", found.Err.Error()
			if found.Optional {
				state = "without"
			}
		}
		r.printf("  %-8s %-15s %s\n", state, found.Subject, cmp.Or(text, "-"))
	}
	r.printf("\n")
}
