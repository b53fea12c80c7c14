package auth

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/event-piper/event-piper/core/settings"
)

// Config is the settings that say who is asking.
type Config struct {
	// Mode is "gateway" or "jwt".
	Mode string
	JWT  JWTConfig
}

// Define defines the settings.
func (c *Config) Define(s *settings.Set) {
	s.Section("Authentication")
	s.Choice(&c.Mode, "AUTH", "gateway", []string{"gateway", "jwt"}, "gateway: an API gateway in front authenticates and sets X-Consumer-Id; jwt: check a bearer token here.")
	s.Secret(&c.JWT.HMACSecret, "JWT_SECRET", "Secret of HS256 tokens, at least 32 bytes.")
	s.String(&c.JWT.JWKSURL, "JWT_JWKS_URL", "", "URL of the keys of RS256, ES256 or EdDSA tokens.")
	s.String(&c.JWT.JWKSFile, "JWT_JWKS_FILE", "", "File with such keys, instead of a URL.")
	s.String(&c.JWT.Issuer, "JWT_ISSUER", "", "Issuer that a token must name; any unless given.")
	s.String(&c.JWT.Audience, "JWT_AUDIENCE", "", "Audience that a token must name; any unless given.")
	s.String(&c.JWT.ConsumerClaim, "JWT_CONSUMER_CLAIM", "sub", "Claim that names the consumer.")
	s.String(&c.JWT.TopicsClaim, "JWT_TOPICS_CLAIM", "", "Claim that lists the topics the consumer may read, an array of strings or a string with spaces between them; none unless given.")
	s.String(&c.JWT.Cookie, "JWT_COOKIE", "", "Cookie that may carry the token; none unless given.")
	s.Check("JWT_COOKIE", func() error { return settings.CheckToken(c.JWT.Cookie) })
	s.Check("AUTH", func() error {
		if c.Mode == "gateway" && (c.JWT.HMACSecret != "" || c.JWT.JWKSURL != "" || c.JWT.JWKSFile != "") {
			return errors.New("is gateway, which checks no tokens, but there is a key for them: set it to jwt")
		}
		if c.Mode == "gateway" && (c.JWT.Issuer != "" || c.JWT.Audience != "" || c.JWT.TopicsClaim != "" || c.JWT.Cookie != "") {
			return errors.New("is gateway, which checks no tokens, but there is a JWT_ISSUER, JWT_AUDIENCE, JWT_TOPICS_CLAIM or JWT_COOKIE: set it to jwt")
		}
		return nil
	})
	s.Duration(&c.JWT.Leeway, "JWT_LEEWAY", 30*time.Second, settings.Between(time.Duration(0), 10*time.Minute), "Clock difference to tolerate.")
}

// Open returns the authenticator that the settings ask for. Ctx bounds the first reading of its keys.
func (c *Config) Open(ctx context.Context, log *slog.Logger) (Authenticator, error) {
	if c.Mode == "gateway" {
		return Gateway(), nil
	}
	return JWT(ctx, c.JWT, log)
}
