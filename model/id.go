package model

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

// idAlphabet is Crockford's base 32: no I, L, O or U.
const idAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// IDLength is the number of characters in an identifier: 128 bits in base 32.
const IDLength = 26

// idSource makes identifiers laid out like a ULID: 48 bits of Unix time in
// milliseconds, 48 bits that are random per process, and a 32-bit counter.
// Within one process identifiers sort in the order they were made, also when
// the clock is set back; across processes the random part keeps them apart.
type idSource struct {
	now func() time.Time

	mu      sync.Mutex // guards the rest
	process [6]byte
	millis  uint64
	counter uint32
}

func newIDSource(now func() time.Time) *idSource {
	s := &idSource{now: now}
	rand.Read(s.process[:]) // never fails since Go 1.24
	return s
}

var ids = newIDSource(time.Now)

// NewID returns a new identifier for an app, function, trigger, call or
// container. It is safe for concurrent use.
func NewID() string { return ids.next() }

func (s *idSource) next() string {
	s.mu.Lock()
	s.millis = max(s.millis, uint64(s.now().UnixMilli()))
	s.counter++
	if s.counter == 0 { // wrapped: borrow from the future to stay sorted
		s.millis++
	}
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], s.millis<<16)
	copy(raw[6:12], s.process[:])
	binary.BigEndian.PutUint32(raw[12:], s.counter)
	s.mu.Unlock()
	return encodeID(raw)
}

// encodeID writes 128 bits as 26 characters of 5 bits; the first carries 3.
func encodeID(raw [16]byte) string {
	hi, lo := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	var out [IDLength]byte
	for i := IDLength - 1; i >= 0; i-- {
		out[i] = idAlphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(out[:])
}
