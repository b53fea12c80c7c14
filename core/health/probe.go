package health

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Probe asks a running instance for its health at the URL of one of the routes of [Health.Register], and
// returns nil if it is up. It serves containers, whose image has no shell and no HTTP client. The URL's host
// must be this machine: over HTTPS the certificate, which names the service and not localhost, is not checked.
func Probe(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above; nothing secret is sent
	}}
	response, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // nothing is lost when this fails
	if response.StatusCode == http.StatusOK {
		return nil
	}
	var body struct{ Reason string }
	if err := json.NewDecoder(io.LimitReader(response.Body, 4<<10)).Decode(&body); err != nil || body.Reason == "" {
		return fmt.Errorf("not healthy: %s", response.Status)
	}
	return fmt.Errorf("not healthy: %s", body.Reason)
}
