package postgresql

import (
	"strings"
	"testing"
)

// FuzzDSN puts a password into what is no DSN, or is one: whatever is wrong with it, the error does not say the password.
func FuzzDSN(f *testing.F) {
	for _, s := range [][2]string{
		{"postgres://u:", "@h/d"}, {"host=h password=", " port=x"}, {"postgres://u:", "@h:port/d"}, {"postgresql://h/d?sslmode=x&password=", ""},
		{"password='", ""}, {"//", "@"}, {"postgres://u:p", "@@h?options=-c%20a=b"}, {"service=", ""}, {"postgres://[::1", "]:5432/d"},
	} {
		f.Add(s[0], s[1])
	}
	const secret = "hunter2secret"
	f.Fuzz(func(t *testing.T, before, after string) {
		// What names a file is repeated, and is no secret.
		for _, file := range []string{"service", "ssl", "passfile", "host", "options"} {
			if strings.Contains(strings.ToLower(before+after), file) {
				t.Skip()
			}
		}
		target, err := parseDSN("DATABASE_URL", before+secret+after, "fuzz")
		if err != nil && (strings.Contains(err.Error(), secret) || !strings.HasPrefix(err.Error(), "DATABASE_URL: ")) {
			t.Errorf("%q: %q, want an error that names the setting and not the password", before+secret+after, err)
		}
		if err == nil && target.RuntimeParams["client_encoding"] != "UTF8" {
			t.Errorf("%q: client_encoding is %q", before+secret+after, target.RuntimeParams["client_encoding"])
		}
	})
}
