package placement

import "github.com/dchest/siphash"

// The key of Fn's consistent hash. Source: the runtime contract of Fn, where a
// function's place is SipHash-2-4 of its identifier.
const (
	hashKey0 = 0
	hashKey1 = 0x4c617279426f6174
)

func hash(text string) uint64 { return siphash.Hash(hashKey0, hashKey1, []byte(text)) }

// mix makes of the hashes of two things one of the pair, by the finalizer of
// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
// 2014).
func mix(a, b uint64) uint64 {
	z := a ^ (b + 0x9e3779b97f4a7c15)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// jump returns the bucket of a key among n, which must be positive: of n+1
// buckets, only the new one gets keys that were in others. Source: Lamping, Veach:
// A Fast, Minimal Memory, Consistent Hash Algorithm, 2014.
func jump(key uint64, n int) int {
	var bucket, next int64 = -1, 0
	for next < int64(n) {
		bucket = next
		key = key*2862933555777941757 + 1
		next = int64(float64(bucket+1) * (float64(int64(1)<<31) / float64(key>>33+1)))
	}
	return int(bucket)
}
