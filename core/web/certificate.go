package web

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a key pair in two files, read again when one of them has changed. Looking costs two
// stat calls for each handshake, which is nothing beside the handshake.
type certificate struct {
	// set at construction
	certFile, keyFile string
	log               *slog.Logger

	// guarded by mu
	mu   sync.Mutex
	pair *tls.Certificate
	seen [2]version // of the files when they were last read, whether or not they were a pair
}

type version struct {
	modified time.Time
	size     int64
}

func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	var err error
	if c.seen, err = c.versions(); err != nil {
		return nil, fmt.Errorf("TLS_CERT_FILE, TLS_KEY_FILE: %w", err)
	}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("TLS_CERT_FILE, TLS_KEY_FILE: %w", err)
	}
	return c, nil
}

// get serves tls.Config.GetCertificate. A new pair that cannot be read, as in the middle of a renewal,
// leaves the one before in use and is logged once; it is tried again when a file changes again.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := c.versions()
	if now == c.seen {
		return c.pair, nil
	}
	c.seen = now
	if err == nil {
		err = c.read()
	}
	if err != nil {
		c.log.Error("the new TLS certificate is not usable; the old one stays in use", "error", err)
	} else {
		c.log.Info("TLS certificate read again", "file", c.certFile, "not_after", c.pair.Leaf.NotAfter)
	}
	return c.pair, nil
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.pair = &pair
	return nil
}

func (c *certificate) versions() (v [2]version, err error) {
	for i, file := range [...]string{c.certFile, c.keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			return [2]version{}, err
		}
		v[i] = version{info.ModTime(), info.Size()}
	}
	return v, nil
}
