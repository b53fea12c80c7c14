package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// Server listens from its construction and answers once it serves.
type Server struct {
	// Quiet leaves its start and end out of the log, for one that is beside another.
	Quiet bool
	// NotReady is called first when the server is told to stop: from then on the health check should
	// fail. Drain is called when no new connections are accepted any more. It ends streams, hijacked
	// ones too, spread over the time its context has, and returns by then: nine tenths of DRAIN_TIME,
	// which leaves the last ones time for their last words. Both may be nil; they are set before Serve.
	NotReady func()
	Drain    func(context.Context)

	config      Config
	log         *slog.Logger
	listener    *connections
	certificate *certificate // nil without TLS
}

// Listen takes the port and reads the certificate, so that what is wrong with either stops the start.
// Its errors are one line that names the setting. Connections wait until Serve.
func Listen(ctx context.Context, c Config, log *slog.Logger) (*Server, error) {
	s := &Server{config: c, log: log}
	if c.TLSCertFile != "" {
		var err error
		if s.certificate, err = loadCertificate(c.TLSCertFile, c.TLSKeyFile, log); err != nil {
			return nil, err
		}
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", net.JoinHostPort(c.Address, strconv.Itoa(c.Port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("PORT: %d is in use by another program", c.Port)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("PORT: no permission to listen on %d", c.Port)
	case err != nil:
		return nil, fmt.Errorf("ADDRESS, PORT: %w", err)
	}
	s.listener = newConnections(listener, c.MaxConnections, c.ReadHeaderTimeout)
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close gives the port back when a start fails between Listen and Serve.
func (s *Server) Close() error { return s.listener.Close() }

// Serve answers requests until stop is done, then ends in order: NotReady; LAME_DUCK as before; no new
// connections, Drain, and DRAIN_TIME for requests to end; then it closes what is left. It returns an
// error only when accepting connections failed. When kill is done, all of this is cut short and every
// request's context with it. Hijacked connections are Drain's to close.
func (s *Server) Serve(stop, kill context.Context, h http.Handler) error {
	requests, cancel := context.WithCancel(kill)
	defer cancel()
	srv := s.httpServer(requests, h)
	failed, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		failed <- s.accept(srv)
	}()
	s.info("listening", "address", s.Addr().String(), "tls", s.certificate != nil)

	select {
	case err := <-failed:
		_ = srv.Close()
		return fmt.Errorf("accept connections: %w", err)
	case <-stop.Done():
	case <-kill.Done():
	}
	s.info("stopping", "cause", context.Cause(stop),
		"lame_duck", s.config.LameDuck, "drain_time", s.config.DrainTime)
	if s.NotReady != nil {
		s.NotReady()
	}
	wait(kill, s.config.LameDuck)
	s.shutdown(kill, srv)
	<-ended
	return nil
}

func (s *Server) info(message string, args ...any) {
	if !s.Quiet {
		s.log.Info(message, args...)
	}
}

func (s *Server) shutdown(kill context.Context, srv *http.Server) {
	ctx, cancel := context.WithTimeout(kill, s.config.DrainTime)
	defer cancel()
	drain, cancelDrain := context.WithTimeout(ctx, s.config.DrainTime*9/10)
	defer cancelDrain()

	// Before Drain may close a single stream, nobody can be let in again.
	_ = s.listener.Close()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		if s.Drain != nil {
			s.Drain(drain)
		}
	}()
	err := srv.Shutdown(ctx)
	<-drained
	if err != nil && !errors.Is(err, net.ErrClosed) { // which the listener says when it is closed again
		s.log.Warn("requests did not end in time; closing their connections", "cause", context.Cause(ctx))
		_ = srv.Close()
	}
	s.info("stopped")
}

func (s *Server) httpServer(base context.Context, h http.Handler) *http.Server {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: s.config.ReadHeaderTimeout,
		IdleTimeout:       s.config.IdleTimeout,
		MaxHeaderBytes:    s.config.MaxHeaderBytes,
		ErrorLog:          stdlog.New(serverLog{s.log}, "", 0),
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       s.listener.context,
		ConnState:         s.listener.changed,
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          250,
			MaxReceiveBufferPerConnection: 64 << 10, // no request takes a body
			MaxReceiveBufferPerStream:     16 << 10,
			SendPingTimeout:               30 * time.Second, // notices a client that vanished without a word
			WriteByteTimeout:              time.Minute,
		},
		// No ReadTimeout and WriteTimeout, which would end streams: handlers set deadlines of their own.
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	if s.certificate != nil {
		srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate.get}
	}
	return srv
}

func (s *Server) accept(srv *http.Server) error {
	if s.certificate != nil {
		return srv.ServeTLS(s.listener, "", "")
	}
	return srv.Serve(s.listener)
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Signals returns two contexts: the first SIGTERM or SIGINT ends stop, the second ends kill, which
// ends stop too. The cause of each says which signal it was. Release gives the signals back.
func Signals(parent context.Context) (stop, kill context.Context, release func()) {
	kill, cancelKill := context.WithCancelCause(parent)
	stop, cancelStop := context.WithCancelCause(kill)
	received := make(chan os.Signal, 2)
	signal.Notify(received, syscall.SIGTERM, syscall.SIGINT)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for _, cancel := range []context.CancelCauseFunc{cancelStop, cancelKill} {
			select {
			case sig := <-received:
				cancel(fmt.Errorf("received %v", sig))
			case <-kill.Done():
				return
			}
		}
	}()
	return stop, kill, func() {
		signal.Stop(received)
		cancelKill(context.Canceled)
		<-gone
	}
}
