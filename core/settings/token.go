package settings

import (
	"fmt"
	"strings"
)

// CheckToken refuses what is no name of a header or a cookie, none of which would ever come. It is empty where there is none.
func CheckToken(name string) error {
	const others = "!#$%&'*+-.^_`|~" // RFC 9110, section 5.6.2
	if strings.ContainsFunc(name, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune(others, r)
	}) {
		return fmt.Errorf("%q is not a name of letters, digits and hyphens", name)
	}
	return nil
}
