package pool

import (
	"context"
	"log/slog"
	"time"

	"github.com/tinefn/tine/driver"
)

// This file is about names of images that come to mean another image while the
// function has instances. Nobody waits for that to be found out: calls and
// launches only notice that it is time to ask, and the question is asked beside
// them.

// imageUse is what is asked about: functions of an app that have an image in common
// ask once, and so does one whose instances come and go.
type imageUse struct{ name, tenant string }

// refreshing says when an image was asked about. It is guarded by the pool's mutex.
type refreshing struct {
	due     time.Time // to ask again; zero: nobody has asked yet
	running bool
	failing bool // the last answer was an error, and the log says so
	pushed  bool // since the question was asked the last time
}

// maxRefreshing bounds the images that are remembered. Those that are due are
// forgotten when it is reached, or else all of them, and asked about again.
const maxRefreshing = 10_000

// refreshingLocked returns what is known about the image of a spec.
func (p *Pool) refreshingLocked(spec *Spec) *refreshing {
	use := imageUse{spec.Container.Image, spec.Container.Tenant}
	if known := p.refreshes[use]; known != nil {
		return known
	}
	if len(p.refreshes) >= maxRefreshing {
		now := time.Now()
		for use, r := range p.refreshes {
			if !now.Before(r.due) {
				delete(p.refreshes, use)
			}
		}
		if len(p.refreshes) >= maxRefreshing {
			clear(p.refreshes)
		}
	}
	made := &refreshing{}
	p.refreshes[use] = made
	return made
}

// refreshLocked asks what the name of the group's image means by now, if it is
// time for that.
func (p *Pool) refreshLocked(g *group, now time.Time) {
	r := g.refresh
	isTime := r.pushed || p.opts.ImageRefresh > 0 && !now.Before(r.due)
	if !isTime || r.running || !g.imageReady || p.closed {
		return
	}
	r.running, r.pushed = true, false
	want := g.imageRequest()
	want.Refresh = true
	p.wg.Go(func() {
		image, err := p.ensureImage(want)
		p.mu.Lock()
		defer p.mu.Unlock()
		r.running = false
		r.due = time.Now().Add(p.opts.ImageRefresh)
		defer func() {
			if r.pushed { // while the question was under way
				p.refreshLocked(g, time.Now())
			}
			p.tellRefreshedLocked()
		}()
		if err != nil {
			if !r.failing && p.ctx.Err() == nil {
				p.log.Warn("cannot find out whether an image's name means another one by now; instances of the known one are used",
					slog.String("image", want.Name), slog.String("app_id", want.Tenant), slog.Any("error", err))
			}
			r.failing = true
			return
		}
		r.failing = false
		for _, other := range p.groups {
			if other.refresh == r && other.imageReady {
				p.setImageLocked(other, image)
			}
		}
		p.fillLocked()
	})
}

// ImageChanged tells that names of images mean other ones, all that is reports to be
// so. It returns when the functions with such images use the new ones, or ctx
// ends. Launches that failed for want of such an image are tried again at once.
func (p *Pool) ImageChanged(ctx context.Context, is func(image string) bool) {
	p.mu.Lock()
	for _, g := range p.groups {
		if !is(g.spec.Container.Image) {
			continue
		}
		g.refresh.pushed, g.pushed = true, g.preparing
		p.refreshLocked(g, time.Now())
		if g.failures > 0 {
			g.provenLocked()
			p.fillSoonLocked()
		}
	}
	p.mu.Unlock()
	for {
		p.mu.Lock()
		pending := false
		for use, r := range p.refreshes {
			pending = pending || r.running && is(use.name)
		}
		told := p.refreshed
		p.mu.Unlock()
		if !pending {
			return
		}
		select {
		case <-told:
		case <-ctx.Done():
			return
		}
	}
}

// tellRefreshedLocked wakes who waits for an answer about an image.
func (p *Pool) tellRefreshedLocked() {
	close(p.refreshed)
	p.refreshed = make(chan struct{})
}

// setImageLocked notes what the group's image is. Instances of another one end as
// soon as nobody uses them.
func (p *Pool) setImageLocked(g *group, image driver.Image) {
	before := g.image
	g.image, g.imageReady, g.imageAt = image, true, time.Now()
	if before.ID == image.ID || before.ID == "" {
		return
	}
	p.log.Info("tag moved", slog.String("image", g.spec.Container.Image), slog.String("fn_id", g.spec.FnID),
		slog.String("old_id", before.ID), slog.String("new_id", image.ID), slog.String("old_digest", before.Digest), slog.String("new_digest", image.Digest))
	for _, inst := range append([]*Instance(nil), g.idle...) {
		if inst.outdated() {
			p.endRestingLocked(inst, outdatedReason)
		}
	}
}

// outdatedReason is why an instance ends that is of an older image.
const outdatedReason = "its image's name means another one now"

// outdated reports whether the name of the instance's image means another one.
func (inst *Instance) outdated() bool { return inst.image.ID != inst.group.image.ID }
