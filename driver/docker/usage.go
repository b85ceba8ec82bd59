package docker

import (
	"context"
	"sync"
	"time"
)

// imageGrace is how long an image counts as in use after somebody asked for it:
// longer than the launch that it was asked for may take.
const imageGrace = time.Minute

// usage remembers which images are in use, and since when others are not, by
// what imageKey makes of their names and identifiers. All methods may be called
// at the same time.
type usage struct {
	mu     sync.Mutex // guards images and what is in it
	images map[string]*imageUse
}

type imageUse struct {
	holders  int           // work and containers of this driver
	used     time.Time     // when the last of them began or ended
	seen     time.Time     // when it was first listed, or a container was last seen to use it
	removing chan struct{} // closed when its removal ended; nil: it is not being removed
}

func (u *imageUse) inUse(now time.Time) bool {
	return u.holders > 0 || now.Sub(u.used) < imageGrace
}

// entry returns what is known of an image; u.mu is held.
func (u *usage) entry(key string) *imageUse {
	if u.images == nil {
		u.images = map[string]*imageUse{}
	}
	if u.images[key] == nil {
		u.images[key] = &imageUse{}
	}
	return u.images[key]
}

// hold keeps the image of that name or identifier until release, whether it is
// there already or not. If it is being removed, hold waits for the end of that,
// or of ctx.
func (u *usage) hold(ctx context.Context, image string) {
	key := imageKey(image)
	u.mu.Lock()
	defer u.mu.Unlock()
	for ctx.Err() == nil && u.entry(key).removing != nil {
		removed := u.entry(key).removing
		u.mu.Unlock()
		select {
		case <-removed:
		case <-ctx.Done():
		}
		u.mu.Lock()
	}
	entry := u.entry(key)
	entry.holders++
	entry.used = time.Now()
}

// release ends a hold.
func (u *usage) release(image string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	entry := u.entry(imageKey(image))
	entry.holders--
	entry.used = time.Now()
}

// claim is for the removal of an image with these keys: until unclaim, nobody
// gets to hold it. It is false if the image is in use.
func (u *usage) claim(keys []string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	for _, key := range keys {
		if entry := u.entry(key); entry.removing != nil || entry.inUse(now) {
			return false
		}
	}
	removing := make(chan struct{})
	for _, key := range keys {
		u.entry(key).removing = removing
	}
	return true
}

func (u *usage) unclaim(keys []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, key := range keys {
		entry := u.entry(key)
		if i == 0 {
			close(entry.removing)
		}
		entry.removing = nil
	}
}

// see takes note of an image that was listed, and returns whether it is in use
// and otherwise since when it is not. Other says that a container uses it that
// usage does not know of.
func (u *usage) see(keys []string, now time.Time, other bool) (inUse bool, last time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	inUse = other
	for _, key := range keys {
		entry := u.entry(key)
		if other || entry.seen.IsZero() {
			entry.seen = now
		}
		inUse = inUse || entry.inUse(now)
		if entry.used.After(last) {
			last = entry.used
		}
	}
	// A name may have been of another image, so its first sight says nothing.
	if own := u.entry(keys[0]).seen; own.After(last) {
		last = own
	}
	return inUse, last
}

// putBack makes an image the last one to be removed, of those that are not in
// use.
func (u *usage) putBack(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.entry(imageKey(id)).seen = time.Now()
}

// retain forgets what is neither in use nor listed.
func (u *usage) retain(listed map[string]struct{}, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, entry := range u.images {
		if _, ok := listed[key]; !ok && entry.removing == nil && !entry.inUse(now) {
			delete(u.images, key)
		}
	}
}
