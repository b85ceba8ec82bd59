package invoke

import "io"

// HeldBody is a body that is in memory, so that who needs it whole takes it
// instead of reading it. It is used by one goroutine at a time.
type HeldBody struct {
	data []byte
	read int // bytes that Read has returned
}

// HoldBody returns a body of these bytes, which must not be changed any more.
func HoldBody(data []byte) *HeldBody { return &HeldBody{data: data} }

// Bytes is the whole body, whether something of it was read or not.
func (b *HeldBody) Bytes() []byte { return b.data }

func (b *HeldBody) Read(p []byte) (int, error) {
	if b.read == len(b.data) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.read:])
	b.read += n
	return n, nil
}

// Close does nothing.
func (b *HeldBody) Close() error { return nil }
