package auth

import (
	"net/http"
	"net/url"
	"strings"
)

// tokenParameter carries a token in a URL (RFC 6750, section 2.3), for a browser's EventSource, which
// cannot set headers.
const tokenParameter = "access_token"

// bearerToken returns the one token of a request, out of the Authorization header, the cookie of that name
// (none when empty) or the URL. It refuses more than one, as RFC 6750 does in section 2: to pick one would
// let whoever can add a cookie or a parameter decide who is asking. An empty token counts as none.
func bearerToken(r *http.Request, cookie string) (string, error) {
	var tokens []string
	add := func(token string) {
		if token != "" {
			tokens = append(tokens, token)
		}
	}
	for _, v := range r.Header.Values("Authorization") {
		// Another scheme is for somebody else, such as a proxy in between.
		if scheme, token, _ := strings.Cut(v, " "); strings.EqualFold(scheme, "Bearer") {
			add(strings.TrimSpace(token))
		}
	}
	if cookie != "" {
		for _, c := range r.CookiesNamed(cookie) {
			add(c.Value)
		}
	}
	for _, v := range r.URL.Query()[tokenParameter] {
		add(v)
	}
	switch len(tokens) {
	case 1:
		return tokens[0], nil
	case 0:
		// RFC 6750, section 3.1: no error code where no token was given.
		return "", &Error{
			Status:    http.StatusUnauthorized,
			Reason:    "missing",
			Detail:    "a bearer token is missing",
			Challenge: "Bearer",
		}
	}
	const detail = "more than one token is given"
	return "", &Error{
		Status:    http.StatusBadRequest,
		Reason:    "ambiguous",
		Detail:    detail,
		Challenge: challenge("invalid_request", detail),
	}
}

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
