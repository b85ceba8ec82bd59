package durable

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReplaceGivesTheContentAndTheMode(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name+aside, []byte(strings.Repeat("of a crash", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"a longer text", "short", ""} {
		if err := Replace(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := read(t, name); got != content {
			t.Errorf("got %q, want %q", got, content)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := os.Lstat(name + aside); !os.IsNotExist(err) {
		t.Errorf("the file aside is left: %v", err)
	}
}

func TestFailedReplaceLeavesTheOldContent(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := Replace(name, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(name+aside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(name, []byte("new"), 0o600); err == nil {
		t.Error("no error")
	}
	if got := read(t, name); got != "old" {
		t.Errorf("got %q", got)
	}
}

func TestWhoReadsSeesAllOfAContent(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	contents := []string{strings.Repeat("a", 10_000), strings.Repeat("b", 20_000)}
	if err := Replace(name, []byte(contents[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := range 50 {
			if err := Replace(name, []byte(contents[i%2]), 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	for range 200 {
		if got := read(t, name); got != contents[0] && got != contents[1] {
			t.Errorf("%d bytes, of no content", len(got))
		}
	}
	writing.Wait()
}

func TestWhatIsNotThereIsAnError(t *testing.T) {
	dir := t.TempDir()
	for what, err := range map[string]error{
		"directory of a file": Replace(filepath.Join(dir, "absent", "file"), nil, 0o600),
		"file to rename":      Rename(filepath.Join(dir, "absent"), filepath.Join(dir, "file")),
		"directory to sync":   SyncDir(filepath.Join(dir, "absent")),
	} {
		if !os.IsNotExist(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
