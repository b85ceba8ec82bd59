package network

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestRemovalIsRepeatedUntilItIsGivenUp(t *testing.T) {
	w := newWorld(t)
	r := newRemover(slog.New(slog.DiscardHandler))
	lo := w.link("lo") // which cannot be deleted
	done := make(chan struct{})
	r.remove(removal{lo.Attrs().Index, "lo", func() { close(done) }})
	select {
	case <-done:
		t.Error("it was given up early")
	case <-time.After(3 * firstRemovePause):
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.close(ctx); err == nil || !strings.Contains(err.Error(), "such as lo") {
		t.Errorf("got %v", err)
	}
	<-done
}

func TestOneThatCannotBeRemovedKeepsNoOther(t *testing.T) {
	w := newWorld(t)
	var items []removal
	for _, name := range []string{"one", "two"} {
		w.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}))
		items = append(items, removal{w.link(name).Attrs().Index, name, func() {}})
	}
	items = append(items, removal{w.link("lo").Attrs().Index, "lo", func() {}}, removal{1 << 20, "gone", func() {}})
	handle, err := openHandle()
	w.must(err)
	defer handle.Close()
	left, err := deleteLinks(handle, items)
	if err == nil || len(left) != 1 || left[0].name != "lo" {
		t.Errorf("%v is left (%v)", left, err)
	}
	for _, name := range []string{"one", "two"} {
		if _, err := netlink.LinkByName(name); !isGone(err) {
			t.Errorf("%s is there (%v)", name, err)
		}
	}
	w.must(netlink.LinkSetGroup(w.link("lo"), 0))
}
