// Package web is what every binary has around its routes and how it serves them: access lines, request
// ids, recovery from panics, limits, CORS, problems for what no route answers, TLS, and a shutdown in
// order. The routes themselves are the callers'.
//
//	srv, err := web.Listen(kill, cfg, log) // fails fast: the port, the certificate
//	…connect…
//	srv.NotReady, srv.Drain = …
//	err = srv.Serve(stop, kill, web.Handler(cfg, mux, log))
package web

import (
	"log/slog"
	"net/http"
)

// HealthPath and MetricsPath are asked every few seconds by machines, so their access lines are at debug
// level.
const (
	HealthPath  = "/manage/health"
	MetricsPath = "/metrics"
)

// Handler puts around the routes of mux what every request gets. What is outside sees what is inside:
// the access line has the status of a panic, and a problem reaches a browser with its CORS headers.
func Handler(c Config, mux *http.ServeMux, log *slog.Logger) http.Handler {
	h := stripBase(c.BasePath, mux, problems(mux))
	h = drainBody(c.ReadHeaderTimeout, c.KeepBodies, h)
	h = limitURL(c.MaxURLBytes, h)
	h = closeAmbiguous(h)
	h = checkHost(c.Hosts, h)
	h = allowOrigins(c.CORSOrigins, h)
	h = recoverPanics(log, h)
	h = boundResets(h)
	return logAccess(c.RequestIDHeader, c.Done, log, h)
}
