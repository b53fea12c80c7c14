package settings

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzSettings gives every setting the same value, by its variable or by its flag: what is accepted is in bounds, what is
// refused is said in one line for each, and neither way knows better than the other. A secret is never repeated.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{"", "0", "4000", "65536", "-1", "10s", "1h", "2h", "9999999999h", "auto", "json", "https://a.example,*", " , ", "nowhere", "a\nb", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, name := range []string{"PORT", "ADDRESS", "HEARTBEAT_INTERVAL", "LOG_FORMAT", "CORS_ORIGINS", "DATABASE_URL"} {
			v, set := exampleSet()
			err := set.Parse(nil, func(n string) string {
				if n == name {
					return s
				}
				return ""
			})
			if v.port < 0 || v.port > 65535 || v.heartbeat < time.Second || v.heartbeat > time.Hour ||
				!slices.Contains([]string{"auto", "text", "json"}, v.format) || slices.Contains(v.origins, "") {
				t.Errorf("%s=%q: accepted as %+v (%v)", name, s, v, err)
			}
			if err == nil {
				if s == "" {
					continue
				}
				byFlag, again := exampleSet()
				flag := "--" + strings.ToLower(strings.ReplaceAll(name, "_", "-")) + "=" + s
				if err := again.Parse([]string{flag}, func(string) string { return "" }); err != nil {
					t.Errorf("%s: %v, want it accepted as the variable is", flag, err)
				} else if byFlag.port != v.port || byFlag.heartbeat != v.heartbeat || byFlag.format != v.format ||
					byFlag.url != v.url || byFlag.address != v.address || !slices.Equal(byFlag.origins, v.origins) {
					t.Errorf("%s: %+v, want %+v as by the variable", flag, byFlag, v)
				}
				continue
			}
			if !strings.HasPrefix(err.Error(), name+": ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s=%q: %q, want one line that names the setting", name, s, err)
			}
		}
	})
}
