package docker_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/driver/drivertest"
	"github.com/tinefn/tine/test/image"
)

func newDriver(t *testing.T) driver.Driver {
	t.Helper()
	return open(t, docker.Options{})
}

// open makes a driver on the engine of the tests; without one, the test is
// skipped.
func open(t *testing.T, opts docker.Options) *docker.Driver {
	t.Helper()
	image.NeedEngine(t)
	opts.Host = engineHost()
	d, err := docker.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func images(t *testing.T) drivertest.Images {
	t.Helper()
	const broken = "tine-test/broken:1"
	program := image.TestFn(t)
	if err := image.Build(t.Context(), broken, map[string][]byte{"Dockerfile": []byte("FROM " + program + "\nENTRYPOINT [\"/nothing\"]\n")}); err != nil {
		t.Fatal(err)
	}
	return drivertest.Images{Program: program, Missing: "127.0.0.1:1/tine-test/absent:1", Broken: broken}
}

func TestDriverConforms(t *testing.T) { drivertest.Run(t, newDriver, images(t)) }

func TestDriverWithPreforkPoolConforms(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) driver.Driver { return openPrefork(t, docker.Prefork{Min: 1, Max: 4}) }, images(t))
}

func TestContainersAreHardened(t *testing.T) {
	with := images(t)
	info, err := engineClient(t).Info(t.Context(), client.InfoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	with.Seccomp = slices.ContainsFunc(info.Info.SecurityOptions, func(option string) bool { return strings.HasPrefix(option, "name=seccomp") })
	drivertest.RunHardening(t, newDriver, with)
}

func TestEngineKeepsNoLogAndKnowsWhoseTheContainerIs(t *testing.T) {
	d := open(t, docker.Options{LabelTag: "tag-" + uniqueName()})
	defer closeNow(t, d)
	spec := sleeper(t)
	spec.Labels = map[string]string{"own": "label"}
	c, err := d.Create(t.Context(), spec)
	if err == nil {
		err = c.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	found, err := engineClient(t).ContainerInspect(t.Context(), spec.ID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if config := found.Container.HostConfig.LogConfig; config.Type != "none" || found.Container.LogPath != "" {
		t.Errorf("logs go to %+v, %q", config, found.Container.LogPath)
	}
	for label, want := range map[string]string{"own": "label", "tine.instance": d.InstanceID(), "fn-agent-instance": d.InstanceID()} {
		if got := found.Container.Config.Labels[label]; got != want {
			t.Errorf("label %s is %q, want %q", label, got, want)
		}
	}
}

func TestEngineThatCannotLimitTheDiskIsWorthOneWarning(t *testing.T) {
	var log bytes.Buffer
	d := open(t, docker.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	defer closeNow(t, d)
	for range 3 {
		spec := sleeper(t)
		spec.Limits.DiskMiB = 512
		if _, err := d.Create(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	switch strings.Count(log.String(), "cannot limit the disk space") {
	case 1:
	case 0:
		t.Skip("this engine can")
	default:
		t.Errorf("the log is\n%s", &log)
	}
}
