package openapi

import (
	"embed"
	"net/http"
	"strings"
)

// docs is swagger-ui-dist 5.35.0 (npm) and the page that starts it, so that /docs needs no other host. What
// is large is kept, and sent, as gzip -9n made it: every browser takes gzip.
//
//go:embed docs
var docs embed.FS

// docsPolicy keeps the page to this host, whatever its scripts try. They set styles inline and draw
// images from data.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// registerDocs serves the page and its parts. Its links are relative, so that it works below any prefix.
func registerDocs(mux *http.ServeMux) {
	for _, f := range []struct{ path, file, media string }{
		{"/docs", "index.html", "text/html; charset=utf-8"},
		{"/docs/page.js", "page.js", "text/javascript; charset=utf-8"},
		{"/docs/swagger-ui-bundle.js", "swagger-ui-bundle.js.gz", "text/javascript; charset=utf-8"},
		{"/docs/swagger-ui.css", "swagger-ui.css.gz", "text/css; charset=utf-8"},
		{"/docs/LICENSE", "LICENSE", "text/plain; charset=utf-8"},
		{"/docs/NOTICE", "NOTICE", "text/plain; charset=utf-8"},
		{"/docs/swagger-ui-bundle.js.LICENSE.txt", "swagger-ui-bundle.js.LICENSE.txt", "text/plain; charset=utf-8"},
	} {
		mux.HandleFunc("GET "+f.path, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", f.media)
			h.Set("Content-Security-Policy", docsPolicy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Cache-Control", "max-age=3600")
			if strings.HasSuffix(f.file, ".gz") {
				h.Set("Content-Encoding", "gzip")
			}
			http.ServeFileFS(w, r, docs, "docs/"+f.file)
		})
	}
}
