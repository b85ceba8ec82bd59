package driver

// ImageStats says how much the images of a driver take that may be removed to
// keep them below a maximum. What several images share is counted once, as far as
// the driver knows of it.
type ImageStats struct {
	Busy, Idle           int   // images in use, and others
	BusyBytes, IdleBytes int64 // what both share is with the former
	MaxBytes             int64
}
