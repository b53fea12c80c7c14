package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// checkText refuses a token whose header or claims can be read in two ways. Encoding/json puts the same
// character for all bytes that are not UTF-8 (RFC 8259, section 8.1), so that two consumers would become one.
// It takes the last of several members of one name, where another reader takes the first: RFC 7515 and
// RFC 7519, both in section 4, let us refuse.
func checkText(token string) error {
	for part := range strings.SplitSeq(token[:strings.LastIndexByte(token, '.')], ".") {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || !utf8.Valid(text) {
			return invalidToken("malformed", "the token is not UTF-8")
		}
		if err := checkMembers(text); err != nil {
			return err
		}
	}
	return nil
}

// checkMembers looks at the names of a JSON object's own members.
func checkMembers(object []byte) error {
	seen := map[string]bool{}
	depth, name := 0, false // name: what comes next at depth 1 is one
	for d := json.NewDecoder(bytes.NewReader(object)); ; {
		token, err := d.Token()
		if err != nil {
			return nil // the end: it has been read as JSON before
		}
		switch delim, _ := token.(json.Delim); delim {
		case '{', '[':
			depth++
			name = depth == 1
			continue
		case '}', ']':
			depth--
		}
		if depth != 1 {
			continue
		}
		if text, ok := token.(string); ok && name {
			if seen[text] || strings.ContainsRune(text, utf8.RuneError) {
				return invalidToken("malformed", "the token has two members of one name")
			}
			seen[text] = true
		}
		name = !name
	}
}
