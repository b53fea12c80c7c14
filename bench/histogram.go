//go:build linux

package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in microseconds. Below 128 µs a bucket is one microsecond wide, above that 64
// buckets make an octave: a percentile is off by 1.6 % at most.
type histogram [(maxOctaves + 2) * 64]int64

// maxOctaves bounds what is told apart: about 36 minutes.
const maxOctaves = 24

func bucket(micros int64) int {
	if micros < 128 {
		return int(max(micros, 0))
	}
	octave := min(bits.Len64(uint64(micros))-7, maxOctaves)
	return min(octave*64+int(micros>>octave), len(histogram{})-1)
}

// middle is the duration that a bucket stands for.
func middle(i int) time.Duration {
	if i < 128 {
		return time.Duration(i) * time.Microsecond
	}
	octave := i/64 - 1
	low := int64(i-octave*64) << octave
	return time.Duration(low+1<<octave/2) * time.Microsecond
}

func (h *histogram) add(nanos int64) { h[bucket(nanos/1000)]++ }

// quantile returns the duration that a share q of all durations does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	var all int64
	for _, n := range h {
		all += n
	}
	rank := int64(q * float64(all))
	for i, n := range h {
		if rank -= n; rank < 0 || rank == 0 && q == 1 {
			return middle(i)
		}
	}
	return 0
}
