//go:build linux

package main

import (
	"math"
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var h histogram
	for micros := int64(1); micros <= 100_000; micros++ {
		h.add(micros * 1000)
	}
	for q, want := range map[float64]time.Duration{
		0.001: 100 * time.Microsecond,
		0.5:   50 * time.Millisecond,
		0.99:  99 * time.Millisecond,
		1:     100 * time.Millisecond,
	} {
		if got := h.quantile(q); math.Abs(float64(got-want)) > 0.017*float64(want) {
			t.Errorf("quantile %v is %v, want %v within 1.6 %%", q, got, want)
		}
	}
	if got := new(histogram).quantile(.5); got != 0 {
		t.Errorf("the median of nothing is %v, want 0", got)
	}
}

func TestEveryDurationHasABucket(t *testing.T) {
	for micros := int64(1); micros < 1<<40; micros = micros*9/8 + 1 {
		i := bucket(micros)
		if got := middle(i).Microseconds(); micros < 1<<30 && math.Abs(float64(got-micros)) > 0.008*float64(micros)+1 {
			t.Errorf("%d µs are in bucket %d, which stands for %d µs", micros, i, got)
		}
	}
}
