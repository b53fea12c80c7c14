package web

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writePair writes a self-signed certificate for 127.0.0.1 with the serial number; modified tells it
// from the one before on file systems with a coarse clock.
func writePair(t *testing.T, c Config, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, c.TLSCertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), serial)
	write(t, c.TLSKeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), serial)
}

func write(t *testing.T, file string, content []byte, serial int64) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	modified := time.Unix(1_700_000_000+serial, 0)
	if err := os.Chtimes(file, modified, modified); err != nil {
		t.Fatal(err)
	}
}

func tlsConfig(t *testing.T) Config {
	dir := t.TempDir()
	return Config{TLSCertFile: filepath.Join(dir, "cert.pem"), TLSKeyFile: filepath.Join(dir, "key.pem")}
}

func TestProtocols(t *testing.T) {
	secure := tlsConfig(t)
	writePair(t, secure, 1)
	client := func(set func(*http.Protocols)) *http.Client {
		tr := &http.Transport{
			Protocols:       new(http.Protocols),
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}
		set(tr.Protocols)
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	tests := map[string]struct {
		config Config
		client *http.Client
		want   string
	}{
		"HTTP/1.1":         {Config{}, client(func(p *http.Protocols) { p.SetHTTP1(true) }), "HTTP/1.1"},
		"h2c":              {Config{}, client(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }), "HTTP/2.0"},
		"TLS and HTTP/2":   {secure, client(func(p *http.Protocols) { p.SetHTTP2(true) }), "HTTP/2.0"},
		"TLS and HTTP/1.1": {secure, client(func(p *http.Protocols) { p.SetHTTP1(true) }), "HTTP/1.1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			srv := run(t, tt.config, routes(map[string]http.HandlerFunc{"GET /": ok}))
			resp, body := get(t, tt.client, srv.url+"/")
			if resp.Proto != tt.want || body != "ok" {
				t.Errorf("want %s ok, got %s %s", tt.want, resp.Proto, body)
			}
			resp, err := tt.client.Post(srv.url+"/", "text/plain", strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			wantProblem(t, resp, 405)
		})
	}
}

func TestACertificateIsReadAgainWhenItChanges(t *testing.T) {
	c := tlsConfig(t)
	writePair(t, c, 1)
	srv := run(t, c, routes(map[string]http.HandlerFunc{"/": ok}))
	serial := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", srv.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatalf("handshake: %v", err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	step := func(what string, want int64) {
		t.Helper()
		for range 2 {
			if got := serial(); got != want {
				t.Errorf("%s: want certificate %d, got %d", what, want, got)
			}
		}
	}
	const broken = "the new TLS certificate is not usable; the old one stays in use"
	step("at first", 1)
	writePair(t, c, 2)
	step("after a renewal", 2)
	write(t, c.TLSKeyFile, []byte("garbage"), 3)
	step("with a broken key", 2)
	if lines, _ := srv.journal.find(broken); len(lines) != 1 {
		t.Errorf("want the broken pair logged once, got %d times", len(lines))
	}
	if err := os.Remove(c.TLSCertFile); err != nil {
		t.Fatal(err)
	}
	step("with a missing file", 2)
	writePair(t, c, 4)
	step("after the repair", 4)
}

func TestListenFailsFast(t *testing.T) {
	_, log := newJournal()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	noKey := tlsConfig(t)
	writePair(t, noKey, 1)
	write(t, noKey.TLSKeyFile, []byte("garbage"), 1)
	tests := map[string]struct {
		config Config
		want   string
	}{
		"port taken":         {Config{Port: taken.Addr().(*net.TCPAddr).Port}, "PORT: "},
		"address of another": {Config{Address: "192.0.2.1"}, "ADDRESS, PORT: "},
		"no certificate":     {tlsConfig(t), "TLS_CERT_FILE, TLS_KEY_FILE: "},
		"broken key":         {noKey, "TLS_CERT_FILE, TLS_KEY_FILE: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.config.Address == "" {
				tt.config.Address = "127.0.0.1"
			}
			srv, err := Listen(t.Context(), tt.config, log)
			if err == nil {
				_ = srv.Close()
				t.Fatal("want an error, got a server")
			}
			if !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("want one line that begins with %q, got %q", tt.want, err)
			}
		})
	}
}

func TestTheEndComesInOrder(t *testing.T) {
	var order []string // guarded by the order of the calls itself
	draining := make(chan struct{})
	streaming := make(chan struct{})
	mux := routes(map[string]http.HandlerFunc{
		"/stream": func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			close(streaming)
			<-draining
			if r.Context().Err() != nil {
				t.Error("want the context of a stream alive until it is drained")
			}
			_, _ = io.WriteString(w, "bye")
		},
	})
	srv := run(t, Config{DrainTime: time.Minute}, mux, func(s *Server) {
		s.NotReady = func() {
			order = append(order, "not ready")
			s.dialOK(t, true)
		}
		s.Drain = func(ctx context.Context) {
			order = append(order, "drain")
			if _, ok := ctx.Deadline(); !ok || ctx.Err() != nil {
				t.Errorf("want a context with a deadline to come, got %v", ctx)
			}
			s.dialOK(t, false)
			close(draining)
		}
	})
	resp, err := http.Get(srv.url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	await(t, streaming, "the stream")
	srv.stop()
	if err := await(t, srv.ended, "the server to end"); err != nil {
		t.Errorf("want no error, got %v", err)
	}
	if body, err := io.ReadAll(resp.Body); string(body) != "bye" || err != nil {
		t.Errorf("want the stream ended well, got %q, %v", body, err)
	}
	if got := strings.Join(order, ", "); got != "not ready, drain" {
		t.Errorf("order: want not ready, drain; got %s", got)
	}
}

// dialOK checks whether new connections are accepted.
func (s *Server) dialOK(t *testing.T, want bool) {
	conn, err := net.Dial("tcp", s.Addr().String())
	if err == nil {
		_ = conn.Close()
	}
	if (err == nil) != want {
		t.Errorf("want accepting connections: %v, got %v", want, err)
	}
}

func TestALameDuckServesOnUntilTheSecondSignal(t *testing.T) {
	notReady := make(chan struct{})
	drained := make(chan error, 1)
	srv := run(t, Config{LameDuck: time.Hour, DrainTime: time.Hour}, routes(map[string]http.HandlerFunc{"/": ok}), func(s *Server) {
		s.NotReady = func() { close(notReady) }
		s.Drain = func(ctx context.Context) { drained <- ctx.Err() }
	})
	srv.stop()
	await(t, notReady, "not ready")
	if resp, _ := get(t, http.DefaultClient, srv.url); resp.StatusCode != 200 {
		t.Errorf("want requests answered, got %d", resp.StatusCode)
	}
	srv.kill()
	if err := await(t, srv.ended, "the server to end"); err != nil {
		t.Errorf("want no error, got %v", err)
	}
	if err := await(t, drained, "Drain"); err == nil {
		t.Error("want Drain told to end at once, got a live context")
	}
}

func TestWhatDoesNotEndIsClosed(t *testing.T) {
	for name, kill := range map[string]bool{"after DRAIN_TIME": false, "at the second signal": true} {
		t.Run(name, func(t *testing.T) {
			begun, gone := make(chan struct{}), make(chan struct{})
			c := Config{DrainTime: 20 * time.Millisecond}
			if kill {
				c.DrainTime = time.Hour
			}
			srv := run(t, c, routes(map[string]http.HandlerFunc{"/": func(_ http.ResponseWriter, r *http.Request) {
				close(begun)
				<-r.Context().Done()
				close(gone)
			}}))
			go func() {
				if resp, err := http.Get(srv.url); err == nil {
					_ = resp.Body.Close()
				}
			}()
			await(t, begun, "the request")
			srv.stop()
			if kill {
				srv.kill()
			}
			if err := await(t, srv.ended, "the server to end"); err != nil {
				t.Errorf("want no error, got %v", err)
			}
			await(t, gone, "the end of the request's context")
		})
	}
}

func TestServeReportsThatAcceptingFailed(t *testing.T) {
	srv := run(t, Config{}, http.NewServeMux())
	srv.journal.wait(t, "listening")
	_ = srv.Close()
	if err := await(t, srv.ended, "the server to end"); err == nil || !strings.HasPrefix(err.Error(), "accept connections: ") {
		t.Errorf("want an error about accepting, got %v", err)
	}
}

func TestTheSecondSignalKills(t *testing.T) {
	stop, kill, release := Signals(t.Context())
	defer release()
	send := func(sig syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	send(syscall.SIGTERM)
	await(t, stop.Done(), "stop")
	if kill.Err() != nil {
		t.Error("want kill alive after the first signal")
	}
	if got := context.Cause(stop).Error(); got != "received terminated" {
		t.Errorf("cause: got %q", got)
	}
	send(syscall.SIGINT)
	await(t, kill.Done(), "kill")
	if got := context.Cause(kill).Error(); got != "received interrupt" {
		t.Errorf("cause: got %q", got)
	}
}

func TestReleaseEndsBoth(t *testing.T) {
	stop, kill, release := Signals(t.Context())
	release()
	if stop.Err() == nil || kill.Err() == nil {
		t.Error("want both contexts ended")
	}
}

func TestLogger(t *testing.T) {
	for format, want := range map[string]string{
		"auto": `"took":1.5`, "json": `"took":1.5`, "text": "took=1.5s",
	} {
		file, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		log := Logger(format, "warn", file)
		log.Info("not this")
		log.Warn("this", "took", 1500*time.Millisecond)
		got, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(got, []byte(want)) || bytes.Contains(got, []byte("not this")) {
			t.Errorf("%s: want %s and only warnings, got %s", format, want, got)
		}
	}
}
