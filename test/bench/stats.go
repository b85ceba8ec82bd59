package main

import (
	"math"
	"slices"
	"time"
)

// summary describes a sample.
type summary struct {
	n                     int
	median, p95, p99, max float64
}

// summarize returns the zero summary for no values.
func summarize(values []float64) summary {
	if len(values) == 0 {
		return summary{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return summary{
		n: len(sorted), median: percentile(sorted, 50), p95: percentile(sorted, 95), p99: percentile(sorted, 99),
		max: sorted[len(sorted)-1],
	}
}

// percentile returns the smallest value that at least p percent of the values
// do not exceed (nearest rank), so that it is always one that was measured.
// The values are sorted and at least one; p is above 0 and at most 100.
func percentile(sorted []float64, p float64) float64 {
	rank := int(math.Ceil(p * float64(len(sorted)) / 100))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func milliseconds(durations []time.Duration) []float64 {
	values := make([]float64, len(durations))
	for i, d := range durations {
		values[i] = inMilliseconds(d)
	}
	return values
}

func inMilliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
