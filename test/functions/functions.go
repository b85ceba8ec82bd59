// Package functions builds container images of functions in several languages,
// for tests, measurements and examples, from what is on the machine: no base image,
// no Dockerfile, and no network but for the packages that a function's own files pin.
//
//	Build ─► archive, as docker save writes it ─► image.Load ─► the engine
//	          in the user's cache directory         └► or whatever else reads archives
//
// An image has two layers: the interpreter with its libraries, which is the same for
// all functions of a language, and the function. Read language.go for what goes into
// the first, source.go for the second, and layer.go for how they are packed.
package functions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/tinefn/tine/test/image"
)

// Language is what a function is written in.
type Language string

// The languages.
const (
	Go     Language = "go"
	Node   Language = "node"
	Python Language = "python"
)

// ErrMissing is for machines on which something is not installed. The error names it.
var ErrMissing = errors.New("not installed")

// workDir is where the function is in its image, and started.
const workDir = "function"

// Build makes an image of the function in a directory, or finds the one that it made
// before of the same content. It returns the image's name, whose tag is the hash of
// the content, and the path of its archive.
//
// Archives are kept in the directory tine-functions of os.UserCacheDir, from which
// they may be deleted at any time.
func Build(ctx context.Context, in Language, dir string) (ref, archive string, err error) {
	fail := func(err error) (string, string, error) {
		return "", "", fmt.Errorf("build function %s: %w", dir, err)
	}
	cache, err := cacheDir()
	if err != nil {
		return fail(err)
	}
	language, err := find(ctx, in)
	if err != nil {
		return fail(err)
	}
	source, err := language.source(ctx, dir)
	if err != nil {
		return fail(err)
	}
	content := sha256.Sum256([]byte(language.identity + "\n" + source.identity))
	ref = fmt.Sprintf("tine-test/%s:%s", filepath.Base(dir), hex.EncodeToString(content[:])[:12])
	archive = filepath.Join(cache, filepath.Base(ref)+".tar")
	if _, err := os.Stat(archive); err == nil {
		return ref, archive, nil
	}
	var layers []v1.Layer
	if language.files != nil {
		layer, err := cachedLayer(cache, language)
		if err != nil {
			return fail(err)
		}
		layers = append(layers, layer)
	}
	files, err := source.files(ctx)
	if err != nil {
		return fail(err)
	}
	layer, err := pack(files)
	if err != nil {
		return fail(err)
	}
	if err := write(archive, append(layers, layer), v1.Config{Entrypoint: language.entrypoint, Env: language.env, WorkingDir: "/" + workDir}, ref); err != nil {
		return fail(err)
	}
	return ref, archive, nil
}

// Load builds an image and loads it into the engine of DOCKER_HOST, if that does not
// have it. It returns the image's name.
func Load(ctx context.Context, in Language, dir string) (ref string, err error) {
	ref, archive, err := Build(ctx, in, dir)
	if err != nil {
		return "", err
	}
	return ref, image.Load(ctx, ref, archive)
}

func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil { // a service's environment may lack HOME
		base = os.TempDir()
	}
	dir := filepath.Join(base, "tine-functions")
	return dir, os.MkdirAll(dir, 0o700)
}

// write writes an archive aside and then gives it its name, as others may look for it
// at the same time. It has the image under all of its names.
func write(path string, layers []v1.Layer, config v1.Config, refs ...string) (err error) {
	made, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return err
	}
	file, err := made.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	if made, err = mutate.ConfigFile(made, file); err != nil {
		return err
	}
	images := map[name.Reference]v1.Image{}
	for _, ref := range refs {
		tag, err := name.NewTag(ref)
		if err != nil {
			return err
		}
		images[tag] = made
	}
	return aside(path, func(aside *os.File) error { return tarball.MultiRefWrite(images, aside) })
}

// aside lets a file be written beside its place, and puts it there if that went well.
func aside(path string, fill func(*os.File) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".making-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // the error that matters is the first
		}
	}()
	if err := errors.Join(fill(file), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
