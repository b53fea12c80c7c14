package postgresql

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhoIsFloodedAgainSoonIsDeafForLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d deafness
		if d.lasts() {
			t.Error("deaf before there was a flood")
		}
		for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second} {
			d.begin()
			time.Sleep(want - 1)
			if !d.lasts() {
				t.Errorf("listens before %v", want)
			}
			time.Sleep(time.Nanosecond)
			if d.lasts() {
				t.Errorf("still deaf after %v", want)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		if d.begin(); time.Until(d.until) != minDeaf {
			t.Errorf("deaf for %v after a time without floods, want %v", time.Until(d.until), minDeaf)
		}
		for range 20 {
			d.begin()
		}
		if time.Until(d.until) != maxDeaf {
			t.Errorf("deaf for %v, want %v at most", time.Until(d.until), maxDeaf)
		}
	})
}
