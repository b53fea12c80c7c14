package service

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"

	"github.com/event-piper/event-piper/core/web"
)

// manageConnections bounds those to the management port, which only machines and operators open.
const manageConnections = 100

// manage is the server of MANAGE_PORT.
type manage struct {
	server *web.Server
	mux    *http.ServeMux
	config web.Config
	log    *slog.Logger
}

// listenManage takes the port; nil without one.
func listenManage(ctx context.Context, c web.Config, log *slog.Logger) (*manage, error) {
	if c.ManagePort == 0 {
		return nil, nil
	}
	c.Address, c.Port = c.ManageHost(), c.ManagePort
	c.MaxConnections, c.CORSOrigins = manageConnections, nil
	c.TLSCertFile, c.TLSKeyFile = "", ""
	c.LameDuck, c.DrainTime = 0, 0 // it serves until the other has ended
	server, err := web.Listen(ctx, c, log)
	if err != nil {
		return nil, fmt.Errorf("MANAGE_%w", err)
	}
	server.Quiet = true
	m := &manage{server: server, mux: http.NewServeMux(), config: c, log: log}
	m.mux.HandleFunc("GET /debug/pprof/", pprof.Index) // all but the following, by name
	m.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	m.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	m.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	m.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return m, nil
}

// start serves until the returned function is called, which waits for the end.
func (m *manage) start(kill context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(kill)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := m.server.Serve(ctx, ctx, web.Handler(m.config, m.mux, m.log)); err != nil {
			m.log.Error("the management port is not served any more", "error", err)
		}
	}()
	return func() { cancel(); <-ended }
}
