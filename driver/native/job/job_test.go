package job

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() *Job {
	return &Job{
		Args: []string{"/function/func", ""}, Env: []string{"A=1", "B=ä"}, Dir: "/function", Host: "node", UID: 1000, GID: 1001, Groups: []uint32{4, 1 << 31},
		Capabilities: 1 << 40, Init: true, NoTmp: true, HasFilter: true, TmpBytes: 1 << 33, TmpInodes: 3, OpenFiles: 350,
	}
}

func TestJobIsReadAsItWasWritten(t *testing.T) {
	for name, want := range map[string]*Job{"all": sample(), "least": {Args: []string{"x"}}} {
		raw, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Unmarshal(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestBrokenJobIsRefused(t *testing.T) {
	raw, err := sample().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for n := range raw {
		if _, err := Unmarshal(raw[:n]); err == nil {
			t.Errorf("%d of %d bytes are enough", n, len(raw))
		}
	}
	if _, err := Unmarshal(append(bytes.Clone(raw), 0)); err == nil {
		t.Error("more than enough is accepted")
	}
	other := bytes.Clone(raw)
	other[0]++
	if _, err := Unmarshal(other); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("another version: %v", err)
	}
	if raw, err = (&Job{}).Marshal(); err != nil {
		t.Fatal(err)
	}
	if _, err := Unmarshal(raw); err == nil {
		t.Error("a job without a program is accepted")
	}
	if _, err := (&Job{Args: []string{strings.Repeat("x", MaxBytes)}}).Marshal(); err == nil {
		t.Error("a job that no socket takes is written")
	}
}

func FuzzUnmarshal(f *testing.F) {
	raw, err := sample().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:9])
	f.Fuzz(func(t *testing.T, in []byte) {
		j, err := Unmarshal(in)
		if err != nil {
			return
		}
		again, err := j.Marshal()
		if err != nil || !bytes.Equal(in, again) {
			t.Errorf("%q was read and became %q, %v", in, again, err)
		}
	})
}
