package image

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// smallDisk opens a store on a file system of its own.
func smallDisk(t *testing.T, size string, opts Options) *Store {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no file system of a known size can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return openStore(t, dir, opts)
}

func used(t *testing.T, s *Store) uint64 {
	t.Helper()
	var stat unix.Statfs_t
	if err := unix.Statfs(s.Dir(), &stat); err != nil {
		t.Fatal(err)
	}
	return (stat.Blocks - stat.Bfree) * uint64(stat.Bsize)
}

func TestUnusedImagesMakeRoom(t *testing.T) {
	registry := newRegistry(t)
	one := registry.push(t, imageOf(t, large(t, "one", 2<<20)), "fn/one:1")
	two := registry.push(t, imageOf(t, large(t, "two", 2<<20)), "fn/two:1")
	three := registry.push(t, imageOf(t, large(t, "three", 2<<20)), "fn/three:1")
	var s *Store
	s = smallDisk(t, "9m", Options{MakeRoom: func(ctx context.Context) bool {
		done, err := s.Collect(ctx, CollectOptions{MaxBytes: math.MaxInt64, Least: 1})
		if err != nil {
			t.Error(err)
		}
		return done.Freed > 0
	}})
	mustPull(t, s, one)
	lease, err := s.Acquire(one)
	if err != nil {
		t.Fatal(err)
	}
	mustPull(t, s, two)
	mustPull(t, s, three)
	if _, err := s.Get(two); !errors.Is(err, ErrNotFound) {
		t.Errorf("there was room, so this shows nothing: %v", err)
	}
	checkTmp(t, s)
	full, err := s.Acquire(three)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Pull(t.Context(), two, PullOptions{})
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "no image can be removed") {
		t.Errorf("with nothing to remove: %v", err)
	}
	full.Release()
	mustPull(t, s, two)
	lease.Release()
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
}

func TestWhatThereIsNoRoomForIsRemoved(t *testing.T) {
	registry := newRegistry(t)
	fits := registry.push(t, imageOf(t, large(t, "fits", 1<<20)), "fn/fits:1")
	huge := imageOf(t, large(t, "fits", 1<<20), large(t, "huge", 5<<20)) // packed there is room for it
	s := smallDisk(t, "11m", Options{CleanSetting: "FN_CLEAN"})
	mustPull(t, s, fits)
	before := used(t, s)
	archive := layoutTar(t, map[string]v1.Image{"fn/huge:2": huge})
	for name, try := range map[string]func() error{
		"pull": func() error {
			_, err := s.Pull(t.Context(), registry.push(t, huge, "fn/huge:1"), PullOptions{})
			return err
		},
		"import": func() error {
			_, err := s.Import(t.Context(), bytes.NewReader(archive))
			return err
		},
		"push": func() error {
			layers, err := huge.Layers()
			if err != nil {
				return err
			}
			config, err := huge.RawConfigFile()
			if err != nil {
				return err
			}
			if _, err := s.putBlob(config); err != nil {
				return err
			}
			for _, layer := range layers {
				if err := pushBlob(s, layer); err != nil {
					return err
				}
			}
			manifest, err := huge.RawManifest()
			if err != nil {
				return err
			}
			_, err = s.PutManifest(t.Context(), "example.com/huge", "1", "", manifest)
			return err
		},
	} {
		err := try()
		if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), s.Dir()) || !strings.Contains(err.Error(), "FN_CLEAN") {
			t.Errorf("%s: %v", name, err)
		}
		checkTmp(t, s)
		if after := used(t, s); after > before+64<<10 {
			t.Errorf("%s: %d bytes are used, %d before", name, after, before)
		}
		lease, err := s.Acquire(fits)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lease.Release()
	}
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
}

func pushBlob(s *Store, layer v1.Layer) error {
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer content.Close()
	upload, err := s.NewUpload()
	if err != nil {
		return err
	}
	var all bytes.Buffer
	if _, err := all.ReadFrom(content); err != nil {
		return err
	}
	if _, err := upload.Write(all.Bytes()); err != nil {
		return errors.Join(err, upload.Discard())
	}
	_, err = upload.Commit(v1.Hash{})
	return err
}
