package auth

import (
	"net/http"
	"net/url"
	"strings"
)

// tokenParameter carries a token in a URL (RFC 6750, section 2.3), for a browser's EventSource, which
// cannot set headers.
const tokenParameter = "access_token"

// hideToken removes the token from the request's URL, so that no handler can log it, echo it in an error
// or take it for an unknown parameter. The request must be the caller's own copy.
func hideToken(r *http.Request) *http.Request {
	if r.URL.RawQuery == "" {
		return r
	}
	var kept []string
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err == nil && name == tokenParameter {
			continue
		}
		kept = append(kept, pair)
	}
	u := *r.URL
	u.RawQuery = strings.Join(kept, "&")
	r.URL, r.RequestURI = &u, u.RequestURI()
	return r
}

// RedactURL returns the path and query of a URL for a log line, without what could be a token. It hides
// too much rather than too little: every parameter in which the word access_token occurs, in any case,
// and every parameter that cannot be decoded.
func RedactURL(u *url.URL) string {
	if u.RawQuery == "" {
		return u.EscapedPath()
	}
	pairs := strings.Split(u.RawQuery, "&")
	for i, pair := range pairs {
		plain, err := url.QueryUnescape(pair)
		switch {
		case err != nil:
			pairs[i] = "REDACTED"
		case strings.Contains(strings.ToLower(plain), tokenParameter):
			pairs[i] = tokenParameter + "=REDACTED"
		}
	}
	return u.EscapedPath() + "?" + strings.Join(pairs, "&")
}
