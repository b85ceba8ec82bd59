package functions

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// content is a file of a layer: bytes, or a file of the machine.
type content struct {
	bytes []byte
	path  string // if bytes is nil; links are followed
	mode  int64  // 0: what the file of the machine has
}

// tree is what a layer consists of, by path without a slash at the beginning.
// Directories need not be named.
type tree map[string]content

// add adds a file of the machine under its own path.
func (t tree) add(file string) { t[file[1:]] = content{path: file} }

// writeTo writes the tree as an archive, which is always the same for the same tree.
// The times of files are kept, as Python compares them with those that it compiled.
func (t tree) writeTo(w io.Writer) error {
	archive := tar.NewWriter(w)
	made := map[string]bool{".": true}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if err := writeParents(archive, path.Dir(name), made); err != nil {
			return err
		}
		if err := t[name].writeTo(archive, name); err != nil {
			return err
		}
	}
	return archive.Close()
}

func writeParents(archive *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := writeParents(archive, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(0, 0)})
}

func (c content) writeTo(archive *tar.Writer, name string) (err error) {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: c.mode, Size: int64(len(c.bytes)), ModTime: time.Unix(0, 0)}
	var from io.Reader = bytes.NewReader(c.bytes)
	if c.bytes == nil {
		file, err := os.Open(c.path)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // it is only read
		info, err := file.Stat()
		if err != nil {
			return err
		}
		header.Size, header.ModTime, from = info.Size(), info.ModTime().Truncate(time.Second), file
		if c.mode == 0 {
			header.Mode = int64(info.Mode().Perm())
		}
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, from)
	return err
}

// pack makes a layer of a tree.
func pack(t tree) (v1.Layer, error) {
	var archive bytes.Buffer
	if err := t.writeTo(&archive); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
}

// cachedLayer makes the layer of an interpreter, which takes seconds, or finds the one
// that was made before.
func cachedLayer(cache string, l *language) (v1.Layer, error) {
	sum := sha256.Sum256([]byte(l.identity))
	file := filepath.Join(cache, "layer-"+hex.EncodeToString(sum[:])[:12]+".tar.gz")
	if _, err := os.Stat(file); err != nil {
		files, err := l.files()
		if err != nil {
			return nil, err
		}
		err = aside(file, func(aside *os.File) error {
			// To compress would take longer than all the rest.
			compressed, err := gzip.NewWriterLevel(aside, gzip.NoCompression)
			if err != nil {
				return err
			}
			return errors.Join(files.writeTo(compressed), compressed.Close())
		})
		if err != nil {
			return nil, err
		}
	}
	return tarball.LayerFromFile(file)
}
