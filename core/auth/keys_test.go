package auth_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/event-piper/event-piper/core/auth"
)

// issuer serves a key set that can be replaced; without one it fails.
type issuer struct {
	*httptest.Server
	mu    sync.Mutex
	set   []byte
	asked int
}

func newIssuer(t *testing.T, set []byte) *issuer {
	i := &issuer{set: set}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.asked++
		if i.set == nil {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		_, _ = w.Write(i.set)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) publish(set []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.set = set
}

func (i *issuer) timesAsked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

func withURL(t *testing.T, url string) auth.Authenticator {
	return newJWT(t, func(c *auth.JWTConfig) { c.JWKSURL = url })
}

func TestKeysRotateWithoutARestart(t *testing.T) {
	older := jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "older"})
	newer := jwk(ecKey(), jwkset.JWKMetadataOptions{KID: "newer"})
	byOlder := sign(jwt.SigningMethodRS256, rsaKey(), kid("older"), claims(nil))
	byNewer := sign(jwt.SigningMethodES256, ecKey(), kid("newer"), claims(nil))

	i := newIssuer(t, jwks(older))
	a := withURL(t, i.URL)
	checkAccepted(t, ask(t, a, "", bearer(byOlder)), "toto")
	checkAccepted(t, ask(t, a, "", bearer(byOlder)), "toto")
	if n := i.timesAsked(); n != 1 {
		t.Errorf("the issuer was asked %d times for known keys, want once", n)
	}

	i.publish(jwks(newer))
	checkAccepted(t, ask(t, a, "", bearer(byNewer)), "toto")
	checkRefusal(t, ask(t, a, "", bearer(byOlder)), http.StatusUnauthorized, "key", `Bearer error="invalid_token"`)
}

func TestMadeUpKeyIDsDoNotAskTheIssuerEachTime(t *testing.T) {
	i := newIssuer(t, issuerKeys())
	a := withURL(t, i.URL)
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		checkRefusal(t, ask(t, a, "", bearer(rs256(kid(id)))), http.StatusUnauthorized, "key", `Bearer error="invalid_token"`)
	}
	for range 10 { // whether this one is known is not asked any more: that is no 401
		checkRefusal(t, ask(t, a, "", bearer(rs256(kid("g")))), http.StatusServiceUnavailable, "key", "")
	}
	if n := i.timesAsked(); n != 7 {
		t.Errorf("the issuer was asked %d times, want at the start and for the first six unknown keys", n)
	}
	checkAccepted(t, ask(t, a, "", bearer(rs256(kid("rsa")))), "toto")
}

func TestAnIssuerThatIsAwayAtTheStart(t *testing.T) {
	i := newIssuer(t, nil)
	var log bytes.Buffer
	a, err := auth.JWT(t.Context(), auth.JWTConfig{JWKSURL: i.URL}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatalf("got error %v, want a start without the issuer", err)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "502") {
		t.Errorf("log: got %q, want an error with the issuer's status", log.String())
	}
	i.publish(issuerKeys())
	checkAccepted(t, ask(t, a, "", bearer(rs256(kid("rsa")))), "toto")
}

func TestAnIssuerThatStaysAway(t *testing.T) {
	i := newIssuer(t, nil)
	a := withURL(t, i.URL)
	for range 2 { // the second is refused without asking again
		checkRefusal(t, ask(t, a, "", bearer(rs256(kid("rsa")))), http.StatusServiceUnavailable, "unavailable", "")
	}
	checkRefusal(t, ask(t, a, "", bearer("nonsense")), http.StatusUnauthorized, "malformed", "Bearer")
	if n := i.timesAsked(); n != 2 {
		t.Errorf("the issuer was asked %d times, want at the start and for the first request", n)
	}
}

func TestAnOutageOfTheIssuerKeepsTheKnownKeys(t *testing.T) {
	for _, broken := range [][]byte{nil, []byte("<html>"), jwks(), bytes.Repeat([]byte(" "), 2<<20)} {
		i := newIssuer(t, issuerKeys())
		a := withURL(t, i.URL)
		i.publish(broken)
		checkRefusal(t, ask(t, a, "", bearer(rs256(kid("new")))), http.StatusServiceUnavailable, "unavailable", "")
		checkAccepted(t, ask(t, a, "", bearer(rs256(kid("rsa")))), "toto")
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	keys := newIssuer(t, issuerKeys())
	elsewhere := httptest.NewServer(http.RedirectHandler(keys.URL, http.StatusFound))
	defer elsewhere.Close()
	got := ask(t, withURL(t, elsewhere.URL), "", bearer(rs256(kid("rsa"))))
	checkRefusal(t, got, http.StatusServiceUnavailable, "unavailable", "")
}

func TestAFileIsReadAgainForAnUnknownKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	write := func(set []byte) {
		if err := os.WriteFile(path, set, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(jwks(jwk(edKey(), jwkset.JWKMetadataOptions{KID: "ed"})))
	a := newJWT(t, func(c *auth.JWTConfig) { c.JWKSFile = path })
	write(issuerKeys())
	checkAccepted(t, ask(t, a, "", bearer(rs256(kid("rsa")))), "toto")
}

// TestAMadeUpKeyIDDoesNotHideARotation: it was followed by ten seconds of 401 for the issuer's new key.
func TestAMadeUpKeyIDDoesNotHideARotation(t *testing.T) {
	i := newIssuer(t, jwks(jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "older"})))
	a := withURL(t, i.URL)
	checkRefusal(t, ask(t, a, "", bearer(rs256(kid("made up")))), http.StatusUnauthorized, "key", `Bearer error="invalid_token"`)
	i.publish(jwks(jwk(ecKey(), jwkset.JWKMetadataOptions{KID: "newer"})))
	checkAccepted(t, ask(t, a, "", bearer(sign(jwt.SigningMethodES256, ecKey(), kid("newer"), claims(nil)))), "toto")
}
