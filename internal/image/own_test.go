package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestOwnImagesKeepTheirNamesWhenTheAddressChanges(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	openAt := func(hosts ...string) *Store {
		t.Helper()
		s, err := Open(dir, Options{OwnHosts: hosts})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := openAt("127.0.0.1:1", "localhost:1")
	m := digestOf(t, small(t, "1"))
	if images, err := s.Import(t.Context(), bytes.NewReader(layoutTar(t, map[string]v1.Image{"localhost:1/a:1": small(t, "1")}))); err != nil || images[0].Target != m {
		t.Fatal(images, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt("127.0.0.1:2")
	for _, name := range []string{"127.0.0.1:1/a:1", "localhost:1/a:1", "127.0.0.1:2/a:1", "tine.internal/a:1", "tine.internal/a@" + s.List()[0].Target.String()} {
		canonical, err := s.Canonical(name)
		if _, getErr := s.Get(name); getErr != nil || !s.Own(name) || err != nil {
			t.Errorf("%s: %v, %v", name, getErr, err)
		}
		if name[len(name)-2:] == ":1" && canonical != "tine.internal/a:1" {
			t.Errorf("%s is %s", name, canonical)
		}
	}
	// By now another registry may be where this one was.
	if s.Own("127.0.0.1:1/b:1") || !s.Own("127.0.0.1:2/b:1") || s.Own("127.0.0.1:3/a:1") || s.Own("a:1") {
		t.Error("what is not there is not its own with a host of before")
	}
	if _, err := s.Get("127.0.0.1:3/a:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a host that it never had: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What is remembered has a bound, and the latest stay.
	for port := range 2 * mostOwnHosts {
		if err := openAt(fmt.Sprintf("localhost:%d", 100+port)).Close(); err != nil {
			t.Fatal(err)
		}
	}
	s = openAt()
	defer s.Close()
	if len(s.formerHosts) != mostOwnHosts || !s.formerHosts[fmt.Sprintf("localhost:%d", 99+2*mostOwnHosts)] || s.formerHosts["localhost:1"] {
		t.Errorf("remembered %v", s.formerHosts)
	}
}

func TestDamagedFileOfOwnHostsIsMovedAway(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{OwnHosts: []string{"localhost:1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(s.path(ownHostsName), []byte("{"), 0o600), s.Close()); err != nil {
		t.Fatal(err)
	}
	s, err = Open(dir, Options{OwnHosts: []string{"localhost:2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.Problems()) != 1 || !s.Own("localhost:2/a") {
		t.Errorf("problems %v", s.Problems())
	}
}
