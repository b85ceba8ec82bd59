package docker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// layered are images by the layers that they consist of.
type layered struct {
	sizes  []int64 // of layers
	images []storedImage
	layers [][]int // of images
}

func drawLayered(t *rapid.T) *layered {
	l := &layered{sizes: rapid.SliceOfN(rapid.Int64Range(0, 50), 1, 6).Draw(t, "sizes")}
	for i := range rapid.IntRange(0, 8).Draw(t, "images") {
		tags := rapid.IntRange(0, 2).Draw(t, "tags")
		l.layers = append(l.layers, rapid.SliceOfNDistinct(rapid.IntRange(0, len(l.sizes)-1), 1, -1, rapid.ID).Draw(t, "layers"))
		l.images = append(l.images, storedImage{
			id: fmt.Sprint(i), keys: make([]string, 1+tags), tags: tags,
			exempt: rapid.Bool().Draw(t, "exempt"), inUse: rapid.Bool().Draw(t, "in use"), spared: rapid.IntRange(0, 4).Draw(t, "spared") == 0,
			last: time.Unix(rapid.Int64Range(0, 2).Draw(t, "last"), 0), created: rapid.Int64Range(0, 2).Draw(t, "created"),
		})
	}
	return l
}

// measure is what an engine says.
func (l *layered) measure() inventory {
	uses := make([]int, len(l.sizes))
	for _, layers := range l.layers {
		for _, layer := range layers {
			uses[layer]++
		}
	}
	i := inventory{images: slices.Clone(l.images)}
	for layer, size := range l.sizes {
		if uses[layer] > 0 {
			i.total += size
		}
	}
	for n := range i.images {
		for _, layer := range l.layers[n] {
			i.images[n].size += l.sizes[layer]
			if uses[layer] > 1 {
				i.images[n].shared += l.sizes[layer]
			}
		}
	}
	return i
}

// bytes is what the layers take that an image has that is not exempt.
func (l *layered) bytes() (sum int64) {
	counted := make([]bool, len(l.sizes))
	for n, layers := range l.layers {
		for _, layer := range layers {
			if !l.images[n].exempt && !counted[layer] {
				counted[layer] = true
				sum += l.sizes[layer]
			}
		}
	}
	return sum
}

func (l *layered) remove(id string) {
	n := slices.IndexFunc(l.images, func(image storedImage) bool { return image.id == id })
	l.images, l.layers = slices.Delete(l.images, n, n+1), slices.Delete(l.layers, n, n+1)
}

func TestImagesAreRemovedUntilTheRestFitsAndNoneInVain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayered(t)
		maximum := rapid.Int64Range(0, 200).Draw(t, "maximum")
		for {
			now := l.measure()
			if now.bytes() < l.bytes() {
				t.Fatalf("counted %d bytes of %d", now.bytes(), l.bytes())
			}
			stats := now.stats(maximum)
			if stats.BusyBytes+stats.IdleBytes != now.bytes() || stats.BusyBytes < 0 || stats.IdleBytes < 0 {
				t.Fatalf("%+v of %d", stats, now.bytes())
			}
			victims := now.victims(maximum)
			if len(victims) == 0 {
				break
			}
			for _, victim := range victims {
				if victim.exempt || victim.inUse || victim.spared {
					t.Fatalf("removed %+v", victim)
				}
				before := l.measure()
				if before.bytes() <= maximum {
					t.Fatalf("removed %+v, and %d bytes fit", victim, before.bytes())
				}
				for _, other := range before.images {
					if !other.exempt && !other.inUse && !other.spared && other.size > 0 && other.last.Before(victim.last) {
						t.Fatalf("removed %+v before %+v", victim, other)
					}
				}
				l.remove(victim.id)
			}
		}
		left := l.measure()
		for _, image := range left.images {
			if left.bytes() > maximum && !image.exempt && !image.inUse && !image.spared && image.size > 0 {
				t.Fatalf("%d bytes do not fit, and %+v is left", left.bytes(), image)
			}
		}
	})
}

func TestOrderOfEquallyOldImages(t *testing.T) {
	image := func(id string, created int64, tags int, names ...string) storedImage {
		return storedImage{id: id, keys: append([]string{id}, names...), tags: tags, created: created, size: 1}
	}
	i := inventory{total: -1, images: []storedImage{
		image("young", 2, 1, "a"), image("old", 1, 1, "b"), image("digest", 3, 0, "c@sha256:1"), image("nameless", 4, 0),
	}}
	var got []string
	for _, victim := range i.victims(0) {
		got = append(got, victim.id)
	}
	if diff := cmp.Diff([]string{"nameless", "digest", "old", "young"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestLayersOfExemptImagesAreNotCounted(t *testing.T) {
	// Two exempt images of 10 bytes share 9 of them; another has 2 bytes.
	i := inventory{total: 13, images: []storedImage{
		{id: "a", exempt: true, size: 10, shared: 9}, {id: "b", exempt: true, size: 10, shared: 9}, {id: "c", size: 2, keys: []string{"c"}},
	}}
	if got := i.bytes(); got != 2 {
		t.Errorf("%d bytes", got)
	}
	if got := i.victims(2); len(got) != 0 {
		t.Errorf("%+v are to go", got)
	}
}

func TestExemptions(t *testing.T) {
	digits := strings.Repeat("0123456789abcdef", 4)
	for exempt, images := range map[string]map[string]bool{ // names of images, and whether they are exempt
		"busybox":                              {"busybox:latest": true, "docker.io/library/busybox:latest": true, "busybox:1": false, "x/busybox:latest": false},
		"index.docker.io/library/busybox":      {"busybox:latest": true},
		"localhost:5000/a:1":                   {"localhost:5000/a:1": true, "a:1": false},
		"sha256:" + digits:                     {"sha256:" + digits: true, "r/a@sha256:" + digits: true, "a:1": false},
		digits[:12]:                            {"sha256:" + digits: true, "sha256:" + strings.Repeat("f", 64): false},
		"r/a@sha256:" + digits:                 {"r/a@sha256:" + digits: true, "r/b@sha256:" + digits: false},
		"r/a:1@sha256:" + digits:               {"r/a@sha256:" + digits: true, "r/a:1": false},
		"docker.io/library/a@sha256:" + digits: {"a@sha256:" + digits: true},
	} {
		e, err := parseExemptions([]string{exempt})
		if err != nil {
			t.Fatal(err)
		}
		for image, want := range images {
			if got := e.contain([]string{imageKey(image)}); got != want {
				t.Errorf("%s, %s: %t", exempt, image, got)
			}
		}
	}
	for _, name := range []string{"UPPER", "a:", "-"} {
		if _, err := New(t.Context(), Options{MaxImageBytes: 1, ExemptImages: []string{name}}); err == nil || !strings.Contains(err.Error(), "FN_IMAGE_CLEAN_EXEMPT_TAGS") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSurplusNames(t *testing.T) {
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, tt := range []struct{ tags, digests, want []string }{
		{nil, nil, nil},
		{[]string{"a:1"}, []string{"a" + digest}, nil},
		{[]string{"a:1", "a:2"}, []string{"a" + digest}, []string{"a:1"}},
		{[]string{"r:5000/a:1", "b:1"}, []string{"b" + digest, "r:5000/a" + digest}, []string{"r:5000/a:1", "r:5000/a" + digest}},
		{nil, []string{"a" + digest, "b" + digest}, []string{"a" + digest}},
	} {
		if got := surplusNames(tt.tags, tt.digests); !slices.Equal(tt.want, got) {
			t.Errorf("%v %v: got %v, want %v", tt.tags, tt.digests, got, tt.want)
		}
	}
}
