package openapi

import (
	"strings"
	"testing"
)

// FuzzPreferredWait reads a header as RFC 7240 has it, whose first preference of a name counts.
func FuzzPreferredWait(f *testing.F) {
	for _, s := range []string{"wait=10", `respond-async, wait="0"; x=y`, "wait", "wait=-1", "WAIT = 5 ;a=b,wait=7", "wait=99999999999", "wait=1e1", ",,wait=3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		seconds, ok := preferredWait([]string{s})
		if seconds < 0 || seconds > maxWait {
			t.Errorf("%q: %d seconds, want 0 to %d", s, seconds, maxWait)
		}
		if ok && !strings.Contains(strings.ToLower(s), "wait") {
			t.Errorf("%q: waits %d seconds, want nothing that was not asked for", s, seconds)
		}
		// What comes after the first is not looked at, and another header line is the same as a comma.
		if first, rest, found := strings.Cut(s, ","); found {
			if split, okSplit := preferredWait([]string{first, rest}); split != seconds || okSplit != ok {
				t.Errorf("%q: %d, %v in two lines, want %d, %v as in one", s, split, okSplit, seconds, ok)
			}
		}
		if before, okBefore := preferredWait([]string{"wait=7", s}); before != 7 || !okBefore {
			t.Errorf("%q: %d, %v after wait=7, want 7", s, before, okBefore)
		}
	})
}
