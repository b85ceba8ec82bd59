package functions

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/tinefn/tine/test/image"
)

// Archived is the test function's image in an archive, for nodes that load one.
type Archived struct {
	File       string // path
	Ref, Other string // both of its names; their tag is the hash of the content
}

// TestFn makes an archive of the test function's image, or finds the one that it made
// before of the same content, without an engine. It is kept as those of Build are.
func TestFn() (made Archived, err error) {
	fail := func(err error) (Archived, error) {
		return Archived{}, fmt.Errorf("build the test function: %w", err)
	}
	program, err := image.CompileTestFn()
	if err != nil {
		return fail(err)
	}
	cache, err := cacheDir()
	if err != nil {
		return fail(err)
	}
	content := sha256.Sum256(program)
	tag := ":" + hex.EncodeToString(content[:])[:12]
	made = Archived{filepath.Join(cache, "archived-testfn"+tag+".tar"), "tine-test/archived-testfn" + tag, "tine-test/archived-other" + tag}
	if _, err := os.Stat(made.File); err == nil {
		return made, nil
	}
	layer, err := pack(tree{
		workDir + "/func": {bytes: program, mode: 0o755},
		"etc/passwd":      {bytes: []byte(passwd), mode: 0o644},
	})
	if err != nil {
		return fail(err)
	}
	config := v1.Config{Entrypoint: []string{"/" + workDir + "/func"}, WorkingDir: "/" + workDir}
	if err := write(made.File, []v1.Layer{layer}, config, made.Ref, made.Other); err != nil {
		return fail(err)
	}
	return made, nil
}
