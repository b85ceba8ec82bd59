//go:build linux

package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/image"
	"github.com/tinefn/tine/internal/imageaccess"
)

// EnsureImage looks for the image in the store and pulls it if it is not there. The
// work goes on when the caller leaves; others may want it.
func (d *Driver) EnsureImage(ctx context.Context, want driver.ImageRequest) (driver.Image, error) {
	return d.access.Ensure(ctx, want, func() (driver.Image, error) {
		if !d.begin() {
			return driver.Image{}, errClosed
		}
		defer d.wg.Done()
		return d.ensure(d.background, want)
	})
}

func (d *Driver) ensure(ctx context.Context, want driver.ImageRequest) (driver.Image, error) {
	found, err := d.images.Get(want.Name)
	switch isOwn := d.images.Own(want.Name); { // nobody else has such an image, and it is for all apps
	case isOwn && errors.Is(err, image.ErrNotFound):
		return driver.Image{}, &driver.PullError{
			Image: want.Name, Status: http.StatusNotFound,
			Message: "this server's own registry does not have it: push it there, for example with docker push " + want.Name,
		}
	case isOwn:
	case errors.Is(err, image.ErrNotFound), errors.Is(err, image.ErrInvalid): // an invalid name is the pull's to explain
		found, err = d.obtain(ctx, want)
	case err != nil:
	case want.Refresh:
		found, err = d.refresh(ctx, want, found)
	default:
		err = d.access.Authorize(ctx, want, known(found))
	}
	if err != nil {
		return driver.Image{}, err
	}
	lease, found, err := d.acquire(ctx, want, found)
	if errors.Is(err, image.ErrNotFound) { // it was pushed, or imported, for other machines
		return driver.Image{}, &driver.PullError{Image: want.Name, Message: err.Error()}
	}
	if err != nil {
		return driver.Image{}, err
	}
	defer lease.Release()
	if len(lease.Config.Config.Volumes) > 0 && !d.opts.EnableVolumes {
		return driver.Image{}, fmt.Errorf("image %s: %w", want.Name, driver.ErrImageVolume)
	}
	return driver.Image{ID: found.ID.String(), Digest: found.Manifest.String()}, nil
}

// acquire leases an image that was found. One that is damaged on disk is repaired
// first: unpacked again from what is there of it, or else got again, which may bring
// what its name means by now. It returns what it leases.
func (d *Driver) acquire(ctx context.Context, want driver.ImageRequest, found image.Image) (*image.Lease, image.Image, error) {
	lease, err := d.images.Acquire(found.Target.String())
	if !errors.Is(err, image.ErrDamaged) {
		return lease, found, err
	}
	d.log.Warn("image is damaged on disk and is repaired", slog.String("image", want.Name), slog.String("id", found.ID.String()), slog.Any("error", err))
	if err := d.images.RepairImage(ctx, found.Target.String()); err != nil {
		return nil, found, fmt.Errorf("repair image %s: %w", want.Name, driver.Exhausted(err))
	}
	lease, err = d.images.Acquire(found.Target.String())
	if !errors.Is(err, image.ErrDamaged) || d.images.Own(want.Name) { // nobody else has those
		return lease, found, err
	}
	if found, err = d.getAgain(ctx, want, found, err); err != nil {
		return nil, found, err
	}
	lease, err = d.images.Acquire(found.Target.String())
	return lease, found, err
}

// getAgain gets an image anew from where it can be had by the name that is wanted.
// If there is no such place, the damage is the error.
func (d *Driver) getAgain(ctx context.Context, want driver.ImageRequest, found image.Image, damage error) (image.Image, error) {
	if there := d.lookOnEngine(ctx, want.Name); there != nil && there.is(found) {
		return d.importFromEngine(ctx, want.Name)
	}
	if known(found).NameFor(want.Name) == nil { // an identifier, or a part of one: a registry takes that for another image's name
		return image.Image{}, damage
	}
	return d.fetch(ctx, want)
}

// known is what decides who may use an image of the store. It may have further names
// with digests, which the store has not seen.
func known(found image.Image, digests ...string) *imageaccess.Image {
	var tags []string
	for _, name := range found.Names {
		repository, _, fixed := strings.Cut(name, "@")
		if !fixed {
			tags = append(tags, name)
			continue
		}
		// Of an index, the registry knows the part for this machine by itself too.
		digests = append(digests, name, repository+"@"+found.Manifest.String())
	}
	return imageaccess.NewImage(found.ID.String(), tags, digests)
}

// obtain gets an image that the store lacks.
func (d *Driver) obtain(ctx context.Context, want driver.ImageRequest) (image.Image, error) {
	found, err := d.takeOver(ctx, want.Name)
	if errors.Is(err, image.ErrNotFound) {
		return d.fetch(ctx, want)
	}
	if err == nil {
		err = d.access.Authorize(ctx, want, known(found))
	}
	return found, err
}

// onEngine is an image that a Docker engine has.
type onEngine struct {
	id      string
	digests []string           // what registries know it by, as names
	image   *imageaccess.Image // of all of that
}

// is reports whether the store has the same one. Engines that keep images as
// containerd does call them by their targets.
func (e *onEngine) is(known image.Image) bool {
	return slices.Contains([]string{known.ID.String(), known.Manifest.String(), known.Target.String()}, e.id)
}

// pulled are the names with digests that registries know it by. Engines that keep
// images as containerd does make one for each name, also of what was built and no
// registry has, or has something else under that name; so of those there are none.
func (e *onEngine) pulled() []string {
	if slices.ContainsFunc(e.digests, func(name string) bool { return strings.HasSuffix(name, "@"+e.id) }) {
		return nil
	}
	return e.digests
}

// lookOnEngine asks the Docker engine for an image. It is nil if there is none, or
// no engine, or if it is private: that is left there, as the store would not know
// which registry it is from, and those who may use it can pull it.
func (d *Driver) lookOnEngine(ctx context.Context, name string) *onEngine {
	if d.opts.Engine == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	there, err := d.opts.Engine.ImageInspect(ctx, name)
	if err != nil {
		return nil // or there is no engine
	}
	found := &onEngine{there.ID, there.RepoDigests, imageaccess.NewImage(there.ID, there.RepoTags, there.RepoDigests)}
	if d.access.IsPrivate(found.image) {
		return nil
	}
	return found
}

// takeOver takes an image from a Docker engine that has it.
func (d *Driver) takeOver(ctx context.Context, name string) (image.Image, error) {
	there := d.lookOnEngine(ctx, name)
	if there == nil {
		return image.Image{}, image.ErrNotFound
	}
	if known, ok := d.inStore(name, there); ok {
		return known, nil
	}
	return d.importFromEngine(ctx, name)
}

// inStore is an engine's image as the store has it already.
func (d *Driver) inStore(name string, there *onEngine) (image.Image, bool) {
	found, err := d.images.Get(name)
	if errors.Is(err, image.ErrNotFound) && strings.Contains(name, "@") {
		// By a digest it got no name when it was taken over. What is private by the
		// names that the store has is not given out by the engine's word.
		found, err = d.images.Get(there.id)
		if err == nil && (found.ID.Hex == "" || d.access.IsPrivate(known(found))) {
			return image.Image{}, false
		}
	}
	return found, err == nil && there.is(found)
}

func (d *Driver) importFromEngine(ctx context.Context, name string) (image.Image, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.opts.PullTimeout, imageaccess.ErrPullTimeout)
	defer cancel()
	found, err := d.images.ImportFromEngine(ctx, d.opts.Engine, name)
	if err = driver.Exhausted(err); errors.Is(err, driver.ErrExhausted) {
		return image.Image{}, fmt.Errorf("take image %s over from the Docker engine: %w", name, err)
	}
	if err != nil {
		return image.Image{}, &driver.PullError{Image: name, Message: "it cannot be taken over from the Docker engine: " + err.Error()}
	}
	d.log.Info("image taken over from the Docker engine", slog.String("image", name), slog.String("id", found.ID.String()))
	return found, nil
}

// engineTimeout bounds a question to a Docker engine, of which nothing depends.
const engineTimeout = 5 * time.Second

// refresh finds out what an image's name means by now: in the Docker engine if it
// was built there, or else in its registry, from which the engine may have had it. If
// neither says, the one that is there stays in use, for those who may use it.
func (d *Driver) refresh(ctx context.Context, want driver.ImageRequest, there image.Image) (image.Image, error) {
	has := known(there)
	if engine := d.lookOnEngine(ctx, want.Name); engine != nil {
		isPulled := func(i *imageaccess.Image) bool { return i.DigestFor(i.NameFor(want.Name)) != "" }
		switch {
		case engine.is(there):
			has = known(there, engine.pulled()...)
		case !isPulled(has) || !isPulled(engine.image): // another one has been built, or is the first that is known of
			return d.takeOverInstead(ctx, want, there)
		}
	}
	moved, err := d.access.Moved(ctx, want, has)
	if err != nil || !moved {
		return there, err
	}
	return d.fetch(ctx, want)
}

// takeOverInstead takes another image from the engine than the one that is there,
// which stays in use if that fails.
func (d *Driver) takeOverInstead(ctx context.Context, want driver.ImageRequest, there image.Image) (image.Image, error) {
	found, err := d.takeOver(ctx, want.Name)
	if err != nil {
		d.log.Debug("cannot find out whether the image's name means another one by now", slog.String("image", want.Name), slog.Any("error", err))
		found = there
	}
	return found, d.access.Authorize(ctx, want, known(found))
}

// fetch pulls an image and says what came.
func (d *Driver) fetch(ctx context.Context, want driver.ImageRequest) (image.Image, error) {
	began := time.Now()
	pulled, err := d.access.Pull(ctx, want)
	if err != nil {
		return image.Image{}, err
	}
	found, err := d.images.Get(want.Name)
	if err != nil {
		return image.Image{}, &driver.PullError{Image: want.Name, Message: "the image is not there after a successful pull: " + err.Error()}
	}
	if err := pulled.Confirm(found.ID.String()); err != nil {
		return image.Image{}, err
	}
	d.log.Info("image pulled", slog.String("image", want.Name), slog.Duration("took", time.Since(began)),
		slog.Int64("bytes", found.Bytes), slog.String("id", found.ID.String()), slog.String("digest", found.Target.String()))
	return found, nil
}
