package prefork

import (
	"errors"

	"golang.org/x/sync/errgroup"
)

// removeParallel bounds the removals at one time: an engine gets slower per
// removal, and so does the kernel, the more it is asked for at once.
const removeParallel = 8

// RemoveAll removes items, some of them at a time, for drivers that close. It
// tries all of them. The error is that of all which failed.
func RemoveAll[T any](items []T, remove func(T) error) error {
	errs := make([]error, len(items))
	var group errgroup.Group
	group.SetLimit(removeParallel)
	for i, item := range items {
		group.Go(func() error {
			errs[i] = remove(item)
			return nil // the others go on
		})
	}
	_ = group.Wait()
	return errors.Join(errs...)
}
