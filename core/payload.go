package core

import "bytes"

// AppendCompact appends JSON to dst without the white space between its tokens and otherwise unchanged. It
// trusts src to be valid, which the json type of PostgreSQL guarantees.
func AppendCompact(dst, src []byte) []byte {
	for len(src) > 0 {
		switch c := src[0]; c {
		case ' ', '\t', '\n', '\r':
			src = src[1:]
		case '"':
			n := stringLength(src)
			dst = append(dst, src[:n]...)
			src = src[n:]
		default:
			n := bytes.IndexAny(src, " \t\n\r\"")
			if n < 0 {
				n = len(src)
			}
			dst = append(dst, src[:n]...)
			src = src[n:]
		}
	}
	return dst
}

// stringLength is the length of the JSON string that src begins with, quotes included.
func stringLength(src []byte) int {
	for i := 1; i < len(src); i++ {
		n := bytes.IndexByte(src[i:], '"')
		if n < 0 {
			break
		}
		i += n
		backslashes := 0
		for src[i-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return i + 1
		}
	}
	return len(src)
}
