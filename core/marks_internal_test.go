package core

import (
	"slices"
	"testing"
	"time"
)

func TestMarksAreFewAndReachFarBack(t *testing.T) {
	const second, hours = 10, 3
	var m marks
	start := time.Now()
	for id := range int64(hours * 3600 * second) {
		m.add(Mark{ID: id + 1, Stamp: -id}, start.Add(time.Duration(id)*time.Second/second))
	}
	if len(m) > 200 || !slices.IsSortedFunc(m, func(a, b dated) int { return int(a.ID - b.ID) }) {
		t.Fatalf("%d marks after %d hours, want few, in order", len(m), hours)
	}
	for _, ago := range []time.Duration{0, time.Second, time.Minute, time.Hour} {
		lost := int64(ago.Seconds() * second)
		kept, known := hours*3600*second-lost, int64(0)
		for _, mark := range m.list() {
			if mark.ID <= kept {
				known = mark.ID
			}
		}
		if kept-known > lost/4+second/2 {
			t.Errorf("%v lost: what is kept is known but for its last %d events", ago, kept-known)
		}
	}
}
