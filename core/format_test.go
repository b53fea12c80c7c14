package core_test

import (
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core"
)

func TestIsTraceparent(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for s, want := range map[string]bool{
		good:                               true,
		"cc" + good[2:] + "-more":          true,
		good + "-more":                     false, // version 00 ends there
		"ff" + good[2:]:                    false,
		strings.ToUpper(good):              false,
		good[:54]:                          false,
		good + "x":                         false,
		strings.Replace(good, "-", "_", 1): false,
		"00-" + strings.Repeat("0", 32) + good[35:]:      false,
		good[:36] + strings.Repeat("0", 16) + "-01":      false,
		"cc" + good[2:] + "-\n":                          false,
		"cc" + good[2:] + "-" + strings.Repeat("x", 300): false,
		"": false,
	} {
		if got := core.IsTraceparent([]byte(s)); got != want {
			t.Errorf("IsTraceparent(%q) = %t, want %t", s, got, want)
		}
	}
}
