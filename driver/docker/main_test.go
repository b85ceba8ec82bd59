package docker_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engineHost is where the tests' engine listens; empty is the default.
func engineHost() string { return os.Getenv("DOCKER_HOST") }
