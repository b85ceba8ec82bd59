package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unpackTest unpacks into a directory beside which there is a file that
// nothing may touch.
func unpackTest(t testing.TB, opts unpackOptions, entries ...entry) (dir string, notes Notes, err error) {
	t.Helper()
	needRoot(t)
	opts.limits = opts.limits.withDefaults()
	outside := t.TempDir()
	dir = filepath.Join(outside, "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	notes, err = unpack(t.Context(), dir, bytes.NewReader(pack(t, entries...)), opts)
	checkOutside(t, outside)
	return dir, notes, err
}

func checkOutside(t testing.TB, outside string) {
	t.Helper()
	found, err := os.ReadDir(outside)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(outside, "secret"))
	if err != nil || len(found) != 2 {
		t.Fatalf("outside of the root: %v %v", found, err)
	}
	content, err := os.ReadFile(filepath.Join(outside, "secret"))
	if err != nil || string(content) != "secret" || info.Mode() != 0o600 || info.Sys().(*syscall.Stat_t).Nlink != 1 {
		t.Fatalf("file outside of the root: %q %v %v", content, info.Mode(), err)
	}
}

func TestUnpackKeepsWhatAContainerSees(t *testing.T) {
	then := time.Unix(1_000_000_000, 0)
	long := strings.Repeat("x", 200) + "/" + strings.Repeat("y", 200)
	dir, notes, err := unpackTest(
		t, unpackOptions{},
		entry{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o711}, ""},
		entry{tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777, ModTime: then, Uid: 7, Gid: 8}, ""},
		entry{tar.Header{Typeflag: tar.TypeReg, Name: "tmp/f", Mode: 0o640, ModTime: then, Uid: 1000, Gid: 1001}, "text"},
		entry{tar.Header{Typeflag: tar.TypeSymlink, Name: "tmp/l", Linkname: "/etc/../f", ModTime: then, Uid: 5}, ""},
		hardLink("tmp/h", "tmp/f"),
		regular(long, "long"),
		entry{tar.Header{
			Typeflag: tar.TypeReg, Name: "su", Mode: 0o6755,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.a": "b"},
		}, "su"},
		special("null", tar.TypeChar), special("fifo", tar.TypeFifo),
	)
	if err != nil {
		t.Fatal(err)
	}
	stat := func(name string) (os.FileInfo, *syscall.Stat_t) {
		t.Helper()
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info, info.Sys().(*syscall.Stat_t)
	}
	if info, s := stat("tmp"); info.Mode() != fs.ModeDir|fs.ModeSticky|0o777 || s.Uid != 7 || s.Gid != 8 || !info.ModTime().Equal(then) {
		t.Errorf("directory: %v %d:%d %v", info.Mode(), s.Uid, s.Gid, info.ModTime())
	}
	if info, s := stat("tmp/f"); info.Mode() != 0o640 || s.Uid != 1000 || s.Gid != 1001 || !info.ModTime().Equal(then) || s.Nlink != 2 {
		t.Errorf("file: %v %d:%d %v, %d links", info.Mode(), s.Uid, s.Gid, info.ModTime(), s.Nlink)
	}
	if info, s := stat("tmp/l"); info.Mode()&fs.ModeSymlink == 0 || s.Uid != 5 || !info.ModTime().Equal(then) {
		t.Errorf("symlink: %v %d %v", info.Mode(), s.Uid, info.ModTime())
	}
	if target, _ := os.Readlink(filepath.Join(dir, "tmp/l")); target != "/etc/../f" {
		t.Errorf("symlink to %q", target)
	}
	if info, _ := stat("."); info.Mode().Perm() != 0o711 {
		t.Errorf("root: %v", info.Mode())
	}
	if content, err := os.ReadFile(filepath.Join(dir, long)); string(content) != "long" {
		t.Errorf("long name: %q %v", content, err)
	}
	if info, _ := stat(filepath.Dir(long)); info.Mode().Perm() != implicitMode {
		t.Errorf("directory that is not listed: %v", info.Mode())
	}
	if info, _ := stat("su"); info.Mode() != 0o755 {
		t.Errorf("set-uid: %v", info.Mode())
	}
	for _, name := range []string{"security.capability", "trusted.overlay.opaque"} {
		if _, err := unix.Lgetxattr(filepath.Join(dir, "su"), name, nil); !errors.Is(err, unix.ENODATA) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"null", "fifo"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if notes.Skipped != 2 || notes.SetID != 1 || notes.XattrsCut < 2 || len(notes.Examples) != 2 {
		t.Errorf("notes: %v", notes)
	}
}

func TestUnpackKeepsSetIDIfAsked(t *testing.T) {
	dir, _, err := unpackTest(t, unpackOptions{keepSetID: true}, entry{tar.Header{Typeflag: tar.TypeReg, Name: "su", Mode: 0o4755, Uid: 3}, ""})
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(filepath.Join(dir, "su")); info.Mode() != fs.ModeSetuid|0o755 {
		t.Errorf("got %v", info.Mode())
	}
}

func TestUnpackStaysInItsRoot(t *testing.T) {
	tests := map[string]struct {
		entries []entry
		refused bool
		inside  string // a path that is there afterwards
	}{
		"dot dot":                {[]entry{regular("../secret", "x")}, true, ""},
		"dot dot in the middle":  {[]entry{regular("a/../../secret", "x")}, true, ""},
		"absolute":               {[]entry{regular("/secret", "x")}, false, "secret"},
		"absolute and dot dot":   {[]entry{regular("/../secret", "x")}, true, ""},
		"symlink out":            {[]entry{symlink("a", ".."), regular("a/secret", "x")}, false, "secret"},
		"absolute symlink":       {[]entry{symlink("a", "/b"), regular("a/secret", "x")}, false, "b/secret"},
		"symlinks out of depth":  {[]entry{directory("d"), symlink("d/a", "../../.."), regular("d/a/secret", "x")}, false, "secret"},
		"symlink chain":          {[]entry{symlink("a", "b/.."), symlink("b", "../.."), regular("a/secret", "x")}, false, "secret"},
		"symlink to itself":      {[]entry{symlink("a", "a"), regular("a/secret", "x")}, true, ""},
		"write through symlink":  {[]entry{symlink("a", "../secret"), regular("a", "x")}, false, "a"},
		"directory over symlink": {[]entry{symlink("a", ".."), directory("a"), regular("a/secret", "x")}, false, "a/secret"},
		"hard link out":          {[]entry{hardLink("a", "../secret")}, true, ""},
		"hard link absolute":     {[]entry{hardLink("a", "/secret")}, true, ""},
		"hard link by symlink":   {[]entry{symlink("d", ".."), hardLink("a", "d/secret"), regular("a", "x")}, true, ""},
		"hard link to symlink":   {[]entry{symlink("s", "../secret"), hardLink("a", "s"), regular("b", "x")}, false, "b"},
		"hard link to directory": {[]entry{directory("d"), hardLink("a", "d")}, true, ""},
		"hard link to itself":    {[]entry{regular("a", "x"), hardLink("a", "a")}, true, ""},
		"whiteout out":           {[]entry{regular("a/../../.wh.secret", "")}, true, ""},
		"whiteout of dot dot":    {[]entry{regular("d/.wh...", "")}, true, ""},
		"whiteout of nothing":    {[]entry{regular(".wh.", "")}, true, ""},
		"whiteout by symlink":    {[]entry{symlink("d", ".."), regular("d/.wh.secret", "")}, false, "."},
		"opaque by symlink":      {[]entry{symlink("d", ".."), regular("d/.wh..wh..opq", "")}, false, "."},
		"below a whiteout":       {[]entry{regular(".wh.a/b", "")}, true, ""},
		"root as a file":         {[]entry{regular(".", "")}, true, ""},
		"root as a symlink":      {[]entry{symlink("./", "/")}, true, ""},
		"device":                 {[]entry{special("dev", tar.TypeBlock)}, false, "."},
		"deep":                   {[]entry{regular(strings.Repeat("d/", 300)+"f", "")}, true, ""},
		"long":                   {[]entry{regular(strings.Repeat("d/", 3000)+"f", "")}, true, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir, _, err := unpackTest(t, unpackOptions{}, tt.entries...)
			if (err != nil) != tt.refused || err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrLimit) {
				t.Fatalf("got %v", err)
			}
			if tt.inside == "" {
				return
			}
			if _, err := os.Lstat(filepath.Join(dir, tt.inside)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUnpackReplaces(t *testing.T) {
	dir, _, err := unpackTest(
		t, unpackOptions{},
		regular("a", "1"), regular("a", "2"),
		directory("b"), regular("b/x", "1"), regular("b", "file now"),
		regular("c", "file"), directory("c"), regular("c/x", "2"),
		directory("d"), regular("d/x", "1"), directory("d"), regular("d/y", "2"),
		regular("e", "file"), regular("e/x", "3"),
		directory("f"), regular("f/x", "1"), symlink("f", "d"), regular("f/z", "in d"),
		symlink("g", "missing"), regular("g", "no link"),
	)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"a": "2", "b": "file now", "c/x": "2", "d/x": "1", "d/y": "2", "e/x": "3", "d/z": "in d", "g": "no link",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, path)); string(got) != want {
			t.Errorf("%s: %q %v", path, got, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "missing")); err == nil {
		t.Error("a symlink was followed")
	}
}

func isOpaque(t testing.TB, path string) bool {
	t.Helper()
	value := make([]byte, 1)
	_, err := unix.Lgetxattr(path, opaqueXattr, value)
	return err == nil && value[0] == 'y'
}

func TestUnpackWhiteouts(t *testing.T) {
	dir, _, err := unpackTest(
		t, unpackOptions{},
		regular(".wh.gone", ""), regular("new/.wh.gone", ""),
		directory("o"), regular("o/.wh..wh..opq", ""), regular("o/x", "x"),
		regular(".wh.first", ""), directory("first"), regular("first/x", "x"), // hidden below, made anew
		directory("last"), regular("last/x", "x"), regular(".wh.last", ""),
		regular("file", "stays"), regular(".wh.file", ""),
		regular(".wh..wh.plnk/1", "aufs"), regular(".wh..wh.aufs", "aufs"),
		regular(".wh.implied", ""), regular("implied/x", "x"),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gone", "new/gone"} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !isWhiteout(info) {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	for name, want := range map[string]bool{"o": true, "first": true, "last": true, "implied": true, "new": false, ".": false} {
		if got := isOpaque(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s opaque: %t", name, got)
		}
	}
	for _, name := range []string{"o/x", "first/x", "last/x", "file", "implied/x"} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, ".wh..wh.plnk")); err == nil {
		t.Error("AUFS's own files were unpacked")
	}
}

func TestUnpackLimits(t *testing.T) {
	tests := map[string]struct {
		limits  Limits
		entries []entry
	}{
		"bytes":                           {Limits{LayerBytes: 10}, []entry{regular("a", "123456"), regular("b", "123456")}},
		"files":                           {Limits{LayerFiles: 2}, []entry{regular("a", ""), regular("b", ""), regular("c", "")}},
		"directories that are not listed": {Limits{LayerFiles: 5}, []entry{regular("a/b/c/d/e/f", "")}},
		"path":                            {Limits{PathLength: 5}, []entry{regular("abcdef", "")}},
		"depth":                           {Limits{PathDepth: 2}, []entry{regular("a/b/c/d", "")}},
		"target":                          {Limits{PathLength: 5}, []entry{symlink("a", "abcdef")}},
		"grown by symlinks": {Limits{PathLength: 20}, []entry{
			directory("0123456789/012345678"), symlink("l", "0123456789/012345678"), directory("l/more"),
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, _, err := unpackTest(t, unpackOptions{limits: tt.limits}, tt.entries...); !errors.Is(err, ErrLimit) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A sparse file has few bytes in the archive and many on disk; two of them
// together are more than a number can say.
func TestUnpackOfSparseFiles(t *testing.T) {
	needRoot(t)
	sparse := func(name string, size int64) []byte {
		// GNU's format 1.0: the body begins with the map, here of no data.
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		body := "0\n" + strings.Repeat("\x00", 510)
		records := map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name, "GNU.sparse.realsize": fmt.Sprint(size)}
		var pax strings.Builder
		for key, value := range records {
			record := " " + key + "=" + value + "\n"
			length := len(record) + 2
			if length > 99 {
				t.Fatal("too long")
			}
			pax.WriteString(fmt.Sprint(length) + record)
		}
		// The writer refuses such records of its own, so it is made by hand.
		for _, e := range []entry{{tar.Header{Typeflag: tar.TypeReg, Name: "x"}, pax.String()}, {tar.Header{Typeflag: tar.TypeReg, Name: "GNUSparseFile.0/" + name}, body}} {
			e.Size = int64(len(e.body))
			if err := w.WriteHeader(&e.Header); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(e.body)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		content := archive.Bytes()
		content[156] = 'x' // the first is a PAX header
		copy(content[148:], "        ")
		sum := 0
		for _, b := range content[:512] {
			sum += int(b)
		}
		copy(content[148:], fmt.Sprintf("%06o\x00 ", sum))
		return content
	}
	end := make([]byte, 1024)
	run := func(archive []byte) (string, error) {
		dir := t.TempDir()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // lest a failure fills the disk
		defer cancel()
		_, err := unpack(ctx, dir, bytes.NewReader(archive), unpackOptions{limits: Limits{LayerBytes: 1 << 20}.withDefaults()})
		return dir, err
	}
	dir, err := run(append(sparse("small", 5000), end...))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "small")); err != nil || info.Size() != 5000 {
		t.Errorf("got %v %v", info, err)
	}
	if _, err := run(append(append(sparse("a", 1<<19), sparse("b", math.MaxInt64)...), end...)); !errors.Is(err, ErrLimit) {
		t.Errorf("two: %v", err)
	}
}

// Overlayfs itself decides whether whiteouts are right.
func TestOverlayOfUnpackedLayers(t *testing.T) {
	lower, _, err := unpackTest(t, unpackOptions{}, regular("gone", "x"), regular("stays", "x"), directory("o"), regular("o/below", "x"), directory("r"), regular("r/below", "x"))
	if err != nil {
		t.Fatal(err)
	}
	upper, _, err := unpackTest(t, unpackOptions{}, regular(".wh.gone", ""), directory("o"), regular("o/.wh..wh..opq", ""), regular("o/new", "x"), regular(".wh.r", ""), directory("r"), regular("r/new", "x"))
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+upper+":"+lower); err != nil {
		t.Skipf("overlayfs cannot be mounted here: %v", err)
	}
	defer unix.Unmount(at, 0)
	for name, want := range map[string]bool{"gone": false, "stays": true, "o/below": false, "o/new": true, "r/below": false, "r/new": true} {
		if _, err := os.Lstat(filepath.Join(at, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	entries, err := os.ReadDir(at)
	if err != nil || len(entries) != 3 {
		t.Errorf("root: %v %v", entries, err)
	}
}

func TestOverlayOfALease(t *testing.T) {
	registry := newRegistry(t)
	s := newStore(t, Options{})
	ref := registry.push(t, imageOf(
		t, layerOf(t, pack(t, regular("a", "1"), regular("gone", "1"))),
		layerOf(t, pack(t, regular("a", "2"), regular(".wh.gone", ""))), layerOf(t, pack(t, regular("a", "3"))),
	), "fn/a:1")
	mustPull(t, s, ref)
	lease, err := s.Acquire(ref)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	at := t.TempDir()
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lease.Layers, ":")); err != nil {
		t.Skipf("overlayfs cannot be mounted here: %v", err)
	}
	defer unix.Unmount(at, 0)
	if content, err := os.ReadFile(filepath.Join(at, "a")); string(content) != "3" {
		t.Errorf("got %q %v", content, err)
	}
	if entries, err := os.ReadDir(at); err != nil || len(entries) != 1 {
		t.Errorf("root: %v %v", entries, err)
	}
}

// Nothing that an archive says may reach out of the root, or make the
// unpacker panic; what was unpacked can be hashed.
func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, directory("a"), regular("a/b", "text"), symlink("l", "../.."), regular("l/x", "y"), hardLink("h", "a/b")))
	f.Add(pack(f, regular(".wh.a", ""), directory("a"), regular("a/.wh..wh..opq", ""), special("n", tar.TypeChar)))
	f.Add(pack(f, symlink("a", "/"), directory("a"), regular("a", "b"), regular("a/b", "c")))
	f.Fuzz(func(t *testing.T, archive []byte) {
		needRoot(t)
		outside := t.TempDir()
		dir := filepath.Join(outside, "root")
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600)); err != nil {
			t.Fatal(err)
		}
		limits := Limits{LayerBytes: 1 << 20, LayerFiles: 100}.withDefaults()
		_, err := unpack(t.Context(), dir, bytes.NewReader(archive), unpackOptions{limits: limits})
		checkOutside(t, outside)
		if err == nil {
			if _, _, err := hashTree(t.Context(), dir); err != nil {
				t.Fatalf("unpacked, but: %v", err)
			}
		} else if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrLimit) {
			t.Fatalf("no fault of the archive: %v", err)
		}
	})
}
