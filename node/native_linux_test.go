package node_test

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinefn/tine/node"
)

// The engine that images are taken over from is reached as the Docker driver would
// reach it.
func TestNativeDriverReadsTheSettingsForTLSOfItsEngine(t *testing.T) {
	dir := t.TempDir()
	_, err := node.New(t.Context(), node.Options{Stderr: io.Discard, Environ: []string{
		"FN_HOST=127.0.0.1", "FN_PORT=0", "FN_DB_URL=sqlite3://" + filepath.Join(dir, "fn.db"), "FN_IOFS_PATH=" + filepath.Join(dir, "iofs"),
		"FN_STATE_DIR=" + dir, "FN_DRIVER=native", "DOCKER_HOST=tcp://127.0.0.1:1", "DOCKER_CERT_PATH=" + filepath.Join(dir, "absent"),
	}})
	if err == nil || !strings.Contains(err.Error(), filepath.Join("absent", "cert.pem")) {
		t.Errorf("got %v", err)
	}
}
