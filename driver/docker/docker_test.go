package docker_test

import (
	"testing"

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
	return drivertest.Images{Program: image.TestFn(t), Missing: "127.0.0.1:1/tine-test/absent:1"}
}

func TestDriverConforms(t *testing.T) { drivertest.Run(t, newDriver, images(t)) }

func TestContainersAreHardened(t *testing.T) { drivertest.RunHardening(t, newDriver, images(t)) }

func TestDriverWithPreforkPoolConforms(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) driver.Driver { return openPrefork(t, docker.Prefork{Min: 1, Max: 4}) }, images(t))
}
