package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

const (
	// refreshAfter is how long a key that was taken out of its set can still be believed.
	refreshAfter = 5 * time.Minute
	// reloadEvery is how often the set is loaded while it cannot be, or while requests name made-up key ids.
	// Of the latter so many more at once may make the service load it, or else one of them would hide a key that
	// the issuer publishes a moment later.
	reloadEvery = 10 * time.Second
	reloads     = 5
	// loadTimeout bounds how long the start, or a request with an unknown key, waits for the set.
	loadTimeout = 5 * time.Second
	maxSetSize  = 1 << 20
	// minRSABits is what RFC 7518 asks of RS256 in section 3.3.
	minRSABits = 2048
)

// keySet holds the public keys of a JWK Set (RFC 7517) and loads it again when a token names a key it does
// not know, so that rotation needs no restart, and when it has grown old, so that a withdrawn key ends.
// When loading fails, the keys it has stay: an outage of the issuer is not one of every consumer.
//
// The request that needs the set loads it. There is no goroutine that a frozen Lambda would stop.
type keySet struct {
	// set at construction
	load func(context.Context) ([]byte, error)
	log  *slog.Logger

	keys atomic.Pointer[loadedKeys] // nil until loaded once

	turn chan struct{} // one slot, taken by whoever loads
	// owned by whoever has the turn
	budget *rate.Limiter
	asked  time.Time // when the last load ended that a request asked for
	failed bool
}

type loadedKeys struct {
	keys []verificationKey
	at   time.Time
}

// verificationKey is a public key with the one algorithm it is good for.
type verificationKey struct {
	id     string
	alg    string
	public crypto.PublicKey
}

func newKeySet(load func(context.Context) ([]byte, error), log *slog.Logger) *keySet {
	budget := rate.NewLimiter(rate.Every(reloadEvery), reloads)
	return &keySet{load: load, log: log, turn: make(chan struct{}, 1), budget: budget}
}

// find returns the keys a token may be signed with: the one of that id, or, for a token that names none,
// all of that algorithm. Its error is an [*Error].
func (s *keySet) find(ctx context.Context, id, alg string) ([]jwt.VerificationKey, error) {
	came := time.Now()
	known := s.keys.Load()
	found := known.find(id, alg)
	if len(found) > 0 {
		if time.Since(known.at) < refreshAfter {
			return found, nil
		}
		select {
		case s.turn <- struct{}{}:
		default:
			return found, nil // another request is loading already
		}
	} else {
		select {
		case s.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, unavailable("unavailable")
		}
	}
	defer func() { <-s.turn }()

	// Whoever waited for another's load does not repeat it.
	current := !s.asked.Before(came)
	if !current && (time.Since(s.asked) >= reloadEvery || len(found) == 0 && !s.failed && s.budget.Allow()) {
		if err := s.reload(ctx); err != nil {
			s.log.Warn("JWT keys cannot be loaded; those loaded before stay valid", "error", err)
		}
		current, s.asked = true, time.Now()
	}
	found = s.keys.Load().find(id, alg)
	switch {
	case len(found) > 0:
		return found, nil
	case s.failed:
		return nil, unavailable("unavailable")
	case !current:
		// The issuer may have published the key since. That others asked for made-up ones must not turn its
		// tokens into bad ones.
		return nil, unavailable("key")
	}
	return nil, invalidToken("key", "the token is signed with an unknown key")
}

// reload replaces the keys. The caller has the turn, or is the only one to know the set.
func (s *keySet) reload(ctx context.Context) error {
	// Others may wait for the result, so a client that goes away does not end it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	s.failed = true
	set, err := s.load(ctx)
	if err != nil {
		return err
	}
	keys, err := parseKeys(set)
	if err != nil {
		return err
	}
	s.failed = false
	s.keys.Store(&loadedKeys{keys: keys, at: time.Now()})
	return nil
}

func (l *loadedKeys) find(id, alg string) (found []jwt.VerificationKey) {
	if l == nil {
		return nil
	}
	for _, k := range l.keys {
		if k.alg == alg && (id == "" || k.id == id) {
			found = append(found, k.public)
		}
	}
	return found
}

// parseKeys reads the keys of a JWK Set that can verify signatures of ours. Others are left out, as
// RFC 7517, section 5, asks; a set in which none is left is an error.
func parseKeys(set []byte) ([]verificationKey, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &document); err != nil {
		return nil, fmt.Errorf("read the JWK Set: %w", err)
	}
	var keys []verificationKey
	var unusable []error
	for i, raw := range document.Keys {
		k, err := parseKey(raw)
		if err != nil {
			unusable = append(unusable, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.Join(append([]error{errors.New("the JWK Set has no key for RS256, ES256 or EdDSA")}, unusable...)...)
	}
	return keys, nil
}

func parseKey(raw []byte) (verificationKey, error) {
	// Without the Private option, a private key is read as its public half and a symmetric one is refused.
	jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return verificationKey{}, err
	}
	m := jwk.Marshal()
	k := verificationKey{id: m.KID, public: jwk.Key()}
	switch public := jwk.Key().(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSABits {
			return verificationKey{}, fmt.Errorf("an RSA key of less than %d bits", minRSABits)
		}
		k.alg = jwt.SigningMethodRS256.Alg()
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return verificationKey{}, errors.New("a curve other than P-256")
		}
		k.alg = jwt.SigningMethodES256.Alg()
	case ed25519.PublicKey:
		k.alg = jwt.SigningMethodEdDSA.Alg()
	default:
		return verificationKey{}, fmt.Errorf("unsupported key type %q", m.KTY)
	}
	if m.ALG != "" && m.ALG.String() != k.alg {
		return verificationKey{}, fmt.Errorf("unsupported algorithm %q", m.ALG)
	}
	if m.USE != "" && m.USE != jwkset.UseSig {
		return verificationKey{}, fmt.Errorf("not for signatures but %q", m.USE)
	}
	if len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) { // RFC 7517, section 4.3
		return verificationKey{}, fmt.Errorf("not to verify signatures but to %q", m.KEYOPS)
	}
	return k, nil
}

func fromFile(path string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return os.ReadFile(path) } //nolint:gosec // the operator names it
}

func fromURL(address string) (func(context.Context) ([]byte, error), error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errors.New("takes an http or https URL")
	}
	// Following a redirect could leave https, or the host that is trusted with the keys.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return func(ctx context.Context) ([]byte, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Accept", "application/jwk-set+json, application/json")
		w, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		defer w.Body.Close() //nolint:errcheck // read only
		if w.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %s", u.Redacted(), w.Status)
		}
		set, err := io.ReadAll(io.LimitReader(w.Body, maxSetSize+1))
		if err != nil {
			return nil, fmt.Errorf("GET %s: %w", u.Redacted(), err)
		}
		if len(set) > maxSetSize {
			return nil, fmt.Errorf("GET %s: more than %d bytes", u.Redacted(), maxSetSize)
		}
		return set, nil
	}, nil
}
