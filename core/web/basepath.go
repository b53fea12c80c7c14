package web

import (
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// stripBase serves below a base path what mux has without it, for an API mapping or a proxy that passes its prefix on. A path
// that is a route as it is stays so: the prefix may be named like one, and health checks go around a proxy.
func stripBase(base string, mux *http.ServeMux, next http.Handler) http.Handler {
	if base == "" {
		return next
	}
	stripped := http.StripPrefix(base, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, route := mux.Handler(r)
		clean := path.Clean(r.URL.Path)
		switch {
		case route != "" || !strings.HasPrefix(r.URL.EscapedPath(), base+"/"):
			next.ServeHTTP(w, r)
		case clean != strings.TrimSuffix(r.URL.Path, "/"):
			// The mux would redirect, too, and would leave the base path out.
			to := url.URL{Path: clean, RawQuery: r.URL.RawQuery}
			http.Redirect(w, r, to.String(), http.StatusTemporaryRedirect)
		default:
			stripped.ServeHTTP(w, r)
		}
	})
}

func checkBase(base string) error {
	if base == "" || base != "/" && base[0] == '/' && path.Clean(base) == base && !strings.ContainsAny(base, "?#% ") {
		return nil
	}
	return errors.New("takes a path such as /piper: with a slash in front, none at the end, and nothing that is to be escaped")
}
