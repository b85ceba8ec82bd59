package docker_test

import (
	"testing"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/driver/drivertest"
	"github.com/tinefn/tine/test/image"
)

// freezeWays are the ways to freeze a container, as far as the machine has
// them. Each restricts a new driver to one.
var freezeWays = []struct {
	name     string
	byCgroup bool
	restrict func(t testing.TB, d *docker.Driver)
}{
	{"cgroup v1", true, onlyVersion(1)},
	{"cgroup v2", true, onlyVersion(2)},
	{"engine", false, func(t testing.TB, d *docker.Driver) { docker.FreezeByEngine(d, t.TempDir()) }},
}

func onlyVersion(version int) func(testing.TB, *docker.Driver) {
	return func(t testing.TB, d *docker.Driver) {
		if !docker.FreezeByVersion(d, version) {
			t.Skipf("control groups of version %d are not mounted", version)
		}
	}
}

// frozenOnce starts a container and makes sure that it freezes in the way
// that is wanted. It skips where the kernel or the engine does not let it.
func frozenOnce(t testing.TB, d *docker.Driver, byCgroup bool) driver.Container {
	t.Helper()
	c, err := d.Create(t.Context(), &driver.Spec{
		ID: uniqueName(), Image: image.TestFn(t), Command: []string{"sleep"}, Security: driver.Security{NoNetwork: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := docker.FreezesByCgroup(c); got != byCgroup {
		if byCgroup {
			t.Skip("this process cannot write the containers' control groups")
		}
		t.Fatal("frozen by a control group that should not have been found")
	}
	return c
}

func TestFreezingConforms(t *testing.T) {
	for _, way := range freezeWays {
		t.Run(way.name, func(t *testing.T) {
			probe := open(t, docker.Options{})
			defer closeNow(t, probe)
			way.restrict(t, probe)
			frozenOnce(t, probe, way.byCgroup)
			newDriver := func(t *testing.T) driver.Driver {
				d := open(t, docker.Options{})
				way.restrict(t, d)
				return d
			}
			drivertest.RunFreezing(t, newDriver, images(t))
		})
	}
}

func BenchmarkFreezeThaw(b *testing.B) {
	image.NeedEngine(b)
	for _, way := range freezeWays {
		b.Run(way.name, func(b *testing.B) {
			d, err := docker.New(b.Context(), docker.Options{Host: engineHost()})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { closeNow(b, d) })
			way.restrict(b, d)
			c := frozenOnce(b, d, way.byCgroup)
			for b.Loop() {
				if err := c.Freeze(b.Context()); err != nil {
					b.Fatal(err)
				}
				if err := c.Thaw(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
