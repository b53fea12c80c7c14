package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/event-piper/event-piper/core"
)

// MinSecretLength is the least length of an HMAC secret, in bytes: the size of the hash, as RFC 7518 asks
// in section 3.2.
const MinSecretLength = 32

// JWTConfig says which tokens to believe. Exactly one of HMACSecret, JWKSURL and JWKSFile is set.
type JWTConfig struct {
	// HMACSecret verifies HS256 and nothing else; its bytes are used as they are.
	HMACSecret string
	// JWKSURL and JWKSFile name a JWK Set (RFC 7517), which verifies RS256, ES256 and EdDSA (Ed25519).
	JWKSURL  string
	JWKSFile string

	// Issuer and Audience must be in the token's iss and aud when they are set. Without an audience, a
	// token that the same issuer made for another service is believed.
	Issuer   string
	Audience string
	// ConsumerClaim names the claim that is the consumer; "sub" when empty.
	ConsumerClaim string
	// TopicsClaim names the claim that lists the topics granted, an array of strings or a string with spaces
	// between them; none are granted when empty.
	TopicsClaim string
	// Cookie names a cookie that may carry the token; none when empty.
	Cookie string
	// Leeway is how far the issuer's clock may be off, applied to exp, nbf and iat.
	Leeway time.Duration
}

// JWT believes a bearer token (RFC 6750, RFC 7519) that it has checked itself: the signature with exactly
// the algorithms of the configured source of keys, exp, which every token must have, nbf, iat, and the
// issuer and audience that are configured. The identity ends when the token does.
//
// A key source that is wrong in itself, such as a file that cannot be read, is an error. A URL that does
// not answer is not: the log says so and requests get 503 until it does, since an instance that restarts
// while the issuer is away would otherwise stay away longer than the issuer. Loading takes
// five seconds at most; nothing goes on in the background after JWT returns.
func JWT(ctx context.Context, c JWTConfig, log *slog.Logger) (Authenticator, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	a := &jwtAuthenticator{cookie: c.Cookie, claim: c.ConsumerClaim, topics: c.TopicsClaim, leeway: c.Leeway}
	if a.claim == "" {
		a.claim = "sub"
	}

	a.methods = []string{jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg()}
	switch {
	case c.HMACSecret != "":
		a.methods = []string{jwt.SigningMethodHS256.Alg()}
		a.secret = []byte(c.HMACSecret)
	case c.JWKSFile != "":
		a.keys = newKeySet(fromFile(c.JWKSFile), log)
		if err := a.keys.reload(ctx); err != nil {
			return nil, fmt.Errorf("JWT_JWKS_FILE: %w", err)
		}
	default:
		load, err := fromURL(c.JWKSURL)
		if err != nil {
			return nil, fmt.Errorf("JWT_JWKS_URL %w", err)
		}
		a.keys = newKeySet(load, log)
		if err := a.keys.reload(ctx); err != nil {
			log.Error("JWT keys cannot be loaded, requests are refused with 503 until they can be", "error", err)
		}
	}

	options := []jwt.ParserOption{
		jwt.WithValidMethods(a.methods),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(c.Leeway),
		jwt.WithStrictDecoding(),
	}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	a.parser = jwt.NewParser(options...)
	return a, nil
}

func (c JWTConfig) check() error {
	sources := 0
	for _, s := range []string{c.HMACSecret, c.JWKSURL, c.JWKSFile} {
		if s != "" {
			sources++
		}
	}
	switch {
	case sources != 1:
		return errors.New("AUTH=jwt takes exactly one of JWT_SECRET, JWT_JWKS_URL and JWT_JWKS_FILE")
	case c.HMACSecret != "" && len(c.HMACSecret) < MinSecretLength:
		return fmt.Errorf("JWT_SECRET takes at least %d bytes", MinSecretLength)
	case c.Leeway < 0:
		return errors.New("JWT_LEEWAY takes a duration that is not negative")
	}
	return nil
}

// jwtAuthenticator has either a secret or keys. It is immutable but for what keys guards itself.
type jwtAuthenticator struct {
	parser  *jwt.Parser
	methods []string
	secret  []byte
	keys    *keySet
	cookie  string
	claim   string
	topics  string
	leeway  time.Duration
}

func (a *jwtAuthenticator) Authenticate(r *http.Request) (Identity, error) {
	raw, err := bearerToken(r, a.cookie)
	if err != nil {
		return Identity{}, err
	}
	claims := jwt.MapClaims{}
	token, err := a.parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) {
		return a.verificationKey(r.Context(), t)
	})
	if err != nil {
		return Identity{}, a.refusal(token, err)
	}
	for _, name := range [...]string{"exp", "nbf", "iat"} {
		if seconds, ok := claims[name].(float64); ok && (seconds < 0 || seconds > maxTime) {
			return Identity{}, invalidToken("claims", "the token's "+name+" is no time")
		}
	}
	consumer, ok := claims[a.claim].(string)
	if !ok {
		return Identity{}, invalidToken("consumer", "the token's consumer claim is missing or not a string")
	}
	if strings.ContainsRune(consumer, utf8.RuneError) {
		// What encoding/json makes of every half of a surrogate pair (RFC 8259, section 8.2).
		return Identity{}, invalidToken("consumer", "the token's consumer claim is not Unicode")
	}
	if err := core.CheckName(consumer); err != nil {
		return Identity{}, invalidToken("consumer", "the token's consumer claim "+err.Error())
	}
	for _, v := range r.Header.Values(ConsumerHeader) {
		if v != "" && v != consumer {
			return Identity{}, &Error{
				Status:    http.StatusForbidden,
				Reason:    "contradiction",
				Detail:    ConsumerHeader + " names another consumer than the token",
				Challenge: challenge("insufficient_scope", ConsumerHeader+" names another consumer than the token"),
			}
		}
	}
	grants, err := a.grants(claims)
	if err != nil {
		return Identity{}, err
	}
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil {
		return Identity{}, invalidToken("claims", "the token has no expiry")
	}
	return Identity{Consumer: consumer, Grants: grants, Expires: expires.Add(a.leeway)}, nil
}

// grants reads the claim of topics. A token without it grants none.
func (a *jwtAuthenticator) grants(claims jwt.MapClaims) (core.Grants, error) {
	claim, ok := claims[a.topics]
	if a.topics == "" || !ok || claim == nil {
		return core.Grants{}, nil
	}
	var names []string
	switch claim := claim.(type) {
	case string:
		names = strings.FieldsFunc(claim, func(r rune) bool { return r == ' ' }) // not at a space that a name may have
	case []any:
		for _, name := range claim {
			text, ok := name.(string)
			if !ok {
				return core.Grants{}, invalidToken("topics", "the token's topics claim lists something that is no string")
			}
			names = append(names, text)
		}
	default:
		return core.Grants{}, invalidToken("topics", "the token's topics claim is neither an array nor a string")
	}
	for _, name := range names {
		if strings.ContainsRune(name, utf8.RuneError) {
			return core.Grants{}, invalidToken("topics", "the token's topics claim is not Unicode")
		}
	}
	grants, err := core.NewGrants(names)
	if err != nil {
		return core.Grants{}, invalidToken("topics", "the token's topics claim: "+err.Error())
	}
	return grants, nil
}

// verificationKey is called for a token whose algorithm is one of the allowed ones. Since a secret is only
// ever paired with HS256, and a key with the one algorithm of its type, a public key cannot be taken for a
// secret.
func (a *jwtAuthenticator) verificationKey(ctx context.Context, t *jwt.Token) (any, error) {
	if err := checkText(t.Raw); err != nil {
		return nil, err
	}
	// Extensions that we do not know change what the token means (RFC 7515, section 4.1.11); one of them says
	// that what is signed is not encoded (RFC 7797).
	for _, name := range [...]string{"crit", "b64"} {
		if _, ok := t.Header[name]; ok {
			return nil, invalidToken("malformed", "the token demands an extension that is not supported")
		}
	}
	if a.secret != nil {
		return a.secret, nil
	}
	id := ""
	if named, ok := t.Header["kid"]; ok {
		if id, ok = named.(string); !ok {
			return nil, invalidToken("malformed", "the token's key id is not a string")
		}
	}
	keys, err := a.keys.find(ctx, id, t.Method.Alg())
	if err != nil {
		return nil, err
	}
	return jwt.VerificationKeySet{Keys: keys}, nil
}

// refusal says which check a token failed, never in the library's words: those may repeat the token.
func (a *jwtAuthenticator) refusal(t *jwt.Token, err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	for _, c := range []struct {
		err           error
		reason, cause string
	}{
		{jwt.ErrTokenMalformed, "malformed", "the token is not a signed JWT"},
		// The library finds fault with an algorithm before it looks at the signature.
		{jwt.ErrTokenUnverifiable, "algorithm", "the token's algorithm is not accepted"},
		{jwt.ErrTokenSignatureInvalid, "signature", "the token's signature does not match"},
		{jwt.ErrTokenInvalidIssuer, "issuer", "the token is from another issuer"},
		{jwt.ErrTokenInvalidAudience, "audience", "the token is for another audience"},
		{jwt.ErrTokenExpired, "expired", "the token has expired"},
		{jwt.ErrTokenNotValidYet, "early", "the token is not valid yet"},
		{jwt.ErrTokenUsedBeforeIssued, "early", "the token is issued in the future"},
	} {
		if !errors.Is(err, c.err) {
			continue
		}
		if c.reason == "signature" && !slices.Contains(a.methods, t.Method.Alg()) {
			return invalidToken("algorithm", "the token's algorithm is not accepted")
		}
		return invalidToken(c.reason, c.cause)
	}
	return invalidToken("claims", "the token lacks a claim that is required, or has one of the wrong type")
}

// maxTime is the end of the year 9999. Later times do not fit everything that reads them, and beyond what an
// int64 holds they would turn into the past: a token that is not valid yet would be.
const maxTime = 253402300799

// invalidToken refuses a token that was given (RFC 6750, section 3.1). The client is told no more than that.
func invalidToken(reason, cause string) *Error {
	return &Error{
		Status:    http.StatusUnauthorized,
		Reason:    reason,
		Cause:     cause,
		Detail:    "the token is expired, malformed, or not for this service",
		Challenge: `Bearer error="invalid_token"`,
	}
}

// challenge takes a description without quotes.
func challenge(code, description string) string {
	return `Bearer error="` + code + `", error_description="` + description + `"`
}
