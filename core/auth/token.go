package auth

import (
	"net/http"
	"net/url"
	"regexp"
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

// tokenShape is what a JWT looks like: base64url of a JSON object, or three parts of base64url (RFC 7515,
// section 3.1).
var tokenShape = regexp.MustCompile(`eyJ[\w-]{8,}[\w.-]*|[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}[\w.-]*`)

const redacted = "REDACTED"

// RedactURL returns the path and query of a URL for a log line, without what could be a token. It hides
// too much rather than too little: every parameter and every segment of the path in which the word
// access_token or something of the shape of a JWT occurs, in any case, and what cannot be decoded.
func RedactURL(u *url.URL) string {
	segments := strings.Split(u.EscapedPath(), "/")
	for i, segment := range segments {
		if plain, err := url.PathUnescape(segment); err != nil || secretive(plain) {
			segments[i] = redacted
		}
	}
	path := strings.Join(segments, "/")
	if u.RawQuery == "" {
		return path
	}
	pairs := strings.Split(u.RawQuery, "&")
	for i, pair := range pairs {
		plain, err := url.QueryUnescape(pair)
		switch {
		case err != nil:
			pairs[i] = redacted
		case strings.Contains(strings.ToLower(plain), tokenParameter):
			pairs[i] = tokenParameter + "=" + redacted
		case secretive(plain):
			name, _, _ := strings.Cut(pair, "=")
			if secretive(name) || len(name) == len(pair) {
				name = "" // the name itself may be the token
			}
			pairs[i] = name + "=" + redacted
		}
	}
	return path + "?" + strings.Join(pairs, "&")
}

func secretive(text string) bool {
	return strings.Contains(strings.ToLower(text), tokenParameter) || tokenShape.MatchString(text)
}
