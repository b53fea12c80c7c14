package web

import (
	"errors"
	"net/http"
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
		if _, route := mux.Handler(r); route == "" && strings.HasPrefix(r.URL.EscapedPath(), base+"/") {
			stripped.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func checkBase(base string) error {
	if base == "" || base != "/" && base[0] == '/' && path.Clean(base) == base && !strings.ContainsAny(base, "?#% ") {
		return nil
	}
	return errors.New("takes a path such as /piper: with a slash in front, none at the end, and nothing that is to be escaped")
}
