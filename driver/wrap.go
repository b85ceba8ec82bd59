package driver

import "errors"

// KeyExtender is implemented by drivers for which the extensions of a call make a
// difference: usually by one that wraps another and changes containers by them. Other
// drivers do not look at extensions, and calls that differ in nothing else share
// instances.
type KeyExtender interface {
	// InstanceKey returns what the extensions, which it must not change, mean for a
	// container: calls of a function with equal keys share instances, others do not.
	// The empty key means that they change nothing. It is called for every call that
	// has extensions, by many goroutines at the same time, and returns at once.
	InstanceKey(extensions map[string]string) string
}

// HeldMemory is what a container says as a [MemoryMeter], for one that wraps it.
func HeldMemory(c Container) (int64, error) {
	if meter, ok := c.(MemoryMeter); ok {
		return meter.HeldMemory()
	}
	return 0, errors.ErrUnsupported
}
