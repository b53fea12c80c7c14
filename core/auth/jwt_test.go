package auth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/event-piper/event-piper/core/auth"
)

const secret = "0123456789abcdef0123456789abcdef"

// The keys of the issuer, and one that is not its key. Made once, since RSA keys take a while.
var (
	rsaKey      = sync.OnceValue(newRSAKey)
	strangerKey = sync.OnceValue(newRSAKey)
	ecKey       = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey       = sync.OnceValue(func() ed25519.PrivateKey {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return must(k, err)
	})
)

func newRSAKey() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// jwk is the public half of a key as a member of a JWK Set.
func jwk(key any, metadata jwkset.JWKMetadataOptions) jwkset.JWKMarshal {
	k := must(jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Metadata: metadata}))
	return k.Marshal()
}

func jwks(keys ...jwkset.JWKMarshal) []byte {
	return must(json.Marshal(jwkset.JWKSMarshal{Keys: keys}))
}

func issuerKeys() []byte {
	return jwks(
		jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "rsa", ALG: jwkset.AlgRS256, USE: jwkset.UseSig}),
		jwk(ecKey(), jwkset.JWKMetadataOptions{KID: "ec", USE: jwkset.UseSig}),
		jwk(edKey(), jwkset.JWKMetadataOptions{KID: "ed"}),
	)
}

func claims(changes jwt.MapClaims) jwt.MapClaims {
	c := jwt.MapClaims{
		"sub": "toto",
		"iss": "https://issuer.example",
		"aud": []string{"somebody", "events"},
		"iat": time.Now().Add(-time.Minute).Unix(),
		"exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(c, changes)
	for name, v := range c {
		if v == nil {
			delete(c, name)
		}
	}
	return c
}

func sign(method jwt.SigningMethod, key any, header map[string]any, c jwt.MapClaims) string {
	t := jwt.NewWithClaims(method, c)
	maps.Copy(t.Header, header)
	return must(t.SignedString(key))
}

// signText makes an HS256 token of a header and claims as they are.
func signText(header, claims string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	return text + "." + base64.RawURLEncoding.EncodeToString(must(jwt.SigningMethodHS256.Sign(text, []byte(secret))))
}

func hs256(changes jwt.MapClaims) string {
	return sign(jwt.SigningMethodHS256, []byte(secret), nil, claims(changes))
}

func rs256(header map[string]any) string {
	return sign(jwt.SigningMethodRS256, rsaKey(), header, claims(nil))
}

func kid(id any) map[string]any { return map[string]any{"kid": id} }

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// withSecret believes HS256, withFile the issuer's key set; all else is configured alike.
func withSecret(t *testing.T, change func(*auth.JWTConfig)) auth.Authenticator {
	return newJWT(t, func(c *auth.JWTConfig) {
		c.HMACSecret = secret
		if change != nil {
			change(c)
		}
	})
}

func withFile(t *testing.T, set []byte) auth.Authenticator {
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return newJWT(t, func(c *auth.JWTConfig) { c.JWKSFile = path })
}

func newJWT(t *testing.T, change func(*auth.JWTConfig)) auth.Authenticator {
	t.Helper()
	c := auth.JWTConfig{
		Issuer:   "https://issuer.example",
		Audience: "events",
		Cookie:   "session",
		Leeway:   30 * time.Second,
	}
	change(&c)
	a, err := auth.JWT(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestJWTAccepts(t *testing.T) {
	bySecret, byFile := withSecret(t, nil), withFile(t, issuerKeys())
	soon := time.Now().Add(20 * time.Second).Unix()
	for _, c := range []struct {
		name  string
		a     auth.Authenticator
		token string
	}{
		{"HS256", bySecret, hs256(nil)},
		{"RS256", byFile, rs256(kid("rsa"))},
		{"ES256", byFile, sign(jwt.SigningMethodES256, ecKey(), kid("ec"), claims(nil))},
		{"EdDSA", byFile, sign(jwt.SigningMethodEdDSA, edKey(), kid("ed"), claims(nil))},
		{"a token that names no key", byFile, rs256(nil)},
		{"an audience alone", bySecret, hs256(jwt.MapClaims{"aud": "events"})},
		{"expired within the clock skew", bySecret, hs256(jwt.MapClaims{"exp": time.Now().Add(-10 * time.Second).Unix()})},
		{"valid soon, within the clock skew", bySecret, hs256(jwt.MapClaims{"nbf": soon, "iat": soon})},
		{"members of one name further in", bySecret, signText(`{"alg":"HS256"}`, fmt.Sprintf(
			`{"a":{"sub":1,"b":[{"sub":2}]},"sub":"toto","b":[[]],"iss":"https://issuer.example","aud":"events","exp":%d}`, soon))},
		{"a longest name", bySecret, hs256(jwt.MapClaims{"sub": strings.Repeat("x", 255)})},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, c.a, "", bearer(c.token))
			if got.status != http.StatusOK || got.identity.Consumer == "" {
				t.Errorf("got status %d, consumer %q, refusals %q; want 200 and a consumer",
					got.status, got.identity.Consumer, got.refused)
			}
		})
	}
}

func TestJWTRefuses(t *testing.T) {
	bySecret, byFile := withSecret(t, nil), withFile(t, issuerKeys())
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }

	publicDER := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})
	parts := strings.Split(hs256(nil), ".")
	otherClaims := base64.RawURLEncoding.EncodeToString(must(json.Marshal(claims(jwt.MapClaims{"sub": "tata"}))))

	rest := fmt.Sprintf(`,"iss":"https://issuer.example","aud":"events","exp":%d}`, in(time.Hour))
	for _, c := range []struct {
		name   string
		a      auth.Authenticator
		token  string
		reason string
	}{
		{"alg=none with a secret", bySecret, sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, claims(nil)), "algorithm"},
		{"alg=none with keys", byFile, sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid("rsa"), claims(nil)), "algorithm"},
		{"alg=nOnE", bySecret, sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, map[string]any{"alg": "nOnE"}, claims(nil)), "algorithm"},
		{"no alg", bySecret, sign(jwt.SigningMethodHS256, []byte(secret), map[string]any{"alg": nil}, claims(nil)), "algorithm"},
		{"key confusion: HS256 by the public key as PEM", byFile, sign(jwt.SigningMethodHS256, publicPEM, kid("rsa"), claims(nil)), "algorithm"},
		{"key confusion: HS256 by the public key as DER", byFile, sign(jwt.SigningMethodHS256, publicDER, kid("rsa"), claims(nil)), "algorithm"},
		{"key confusion: RS256 with a secret", bySecret, rs256(kid("rsa")), "algorithm"},
		{"key confusion: ES256 by the id of the RSA key", byFile, sign(jwt.SigningMethodES256, ecKey(), kid("rsa"), claims(nil)), "key"},
		{"HS512 with a secret", bySecret, sign(jwt.SigningMethodHS512, []byte(secret), nil, claims(nil)), "algorithm"},
		{"RS512 with an RSA key", byFile, sign(jwt.SigningMethodRS512, rsaKey(), kid("rsa"), claims(nil)), "algorithm"},
		{"PS256 with an RSA key", byFile, sign(jwt.SigningMethodPS256, rsaKey(), kid("rsa"), claims(nil)), "algorithm"},
		{"another secret", bySecret, sign(jwt.SigningMethodHS256, []byte(strings.ToUpper(secret)), nil, claims(nil)), "signature"},
		{"another key under a known id", byFile, sign(jwt.SigningMethodRS256, strangerKey(), kid("rsa"), claims(nil)), "signature"},
		{"another key under no id", byFile, sign(jwt.SigningMethodRS256, strangerKey(), nil, claims(nil)), "signature"},
		{"an unknown key id", byFile, rs256(kid("other")), "key"},
		{"a key id that is no string", byFile, rs256(kid(5)), "malformed"},
		{"a key that the token brings along", byFile, sign(jwt.SigningMethodRS256, strangerKey(), map[string]any{
			"kid": "mine", "jwk": jwk(strangerKey(), jwkset.JWKMetadataOptions{KID: "mine"}), "jku": "http://127.0.0.1:1/",
		}, claims(nil)), "key"},
		{"a critical extension", byFile, rs256(map[string]any{"kid": "rsa", "crit": []string{"exp"}}), "malformed"},
		{"tampered claims", bySecret, parts[0] + "." + otherClaims + "." + parts[2], "signature"},
		{"no signature", bySecret, parts[0] + "." + parts[1] + ".", "signature"},
		{"two parts", bySecret, parts[0] + "." + parts[1], "malformed"},
		{"not a token", bySecret, "s3cret-api-key", "malformed"},
		{"another issuer", bySecret, hs256(jwt.MapClaims{"iss": "https://issuer.example/"}), "issuer"},
		{"no issuer", bySecret, hs256(jwt.MapClaims{"iss": nil}), "claims"},
		{"another audience", bySecret, hs256(jwt.MapClaims{"aud": []string{"somebody"}}), "audience"},
		{"no audience", bySecret, hs256(jwt.MapClaims{"aud": nil}), "claims"},
		{"expired", bySecret, hs256(jwt.MapClaims{"exp": in(-time.Minute)}), "expired"},
		{"no expiry", bySecret, hs256(jwt.MapClaims{"exp": nil}), "claims"},
		{"an expiry that is no number", bySecret, hs256(jwt.MapClaims{"exp": "tomorrow"}), "claims"},
		{"an expiry beyond time", bySecret, hs256(jwt.MapClaims{"exp": 1e300}), "expired"},
		{"not valid yet", bySecret, hs256(jwt.MapClaims{"nbf": in(time.Minute)}), "early"},
		{"issued in the future", bySecret, hs256(jwt.MapClaims{"iat": in(time.Minute)}), "early"},
		{"no consumer", bySecret, hs256(jwt.MapClaims{"sub": nil}), "consumer"},
		{"an empty consumer", bySecret, hs256(jwt.MapClaims{"sub": ""}), "consumer"},
		{"a consumer with a line break", bySecret, hs256(jwt.MapClaims{"sub": "toto\nevent: x"}), "consumer"},
		{"a consumer of half a surrogate pair", bySecret, signText(`{"alg":"HS256"}`, `{"sub":"to\ud800to"`+rest), "consumer"},
		{"claims that are not UTF-8", bySecret, signText(`{"alg":"HS256"}`, "{\"sub\":\"to\xffto\""+rest), "malformed"},
		{"a header that is not UTF-8", bySecret, signText("{\"alg\":\"HS256\",\"x\":\"\xff\"}", `{"sub":"toto"`+rest), "malformed"},
		{"two consumers", bySecret, signText(`{"alg":"HS256"}`, `{"sub":"tata","sub":"toto"`+rest), "malformed"},
		{"two algorithms", bySecret, signText(`{"alg":"none","alg":"HS256"}`, `{"sub":"toto"`+rest), "malformed"},
		{"two names of one spelling", bySecret, signText(`{"alg":"HS256"}`, `{"s\u0075b":"tata","a":{"b":[]},"sub":"toto"`+rest), "malformed"},
		{"claims that are not encoded", bySecret, sign(jwt.SigningMethodHS256, []byte(secret), map[string]any{"b64": false}, claims(nil)), "malformed"},
		{"an audience that is no text", bySecret, hs256(jwt.MapClaims{"aud": []any{"events", 5}}), "claims"},
		{"valid beyond time", bySecret, hs256(jwt.MapClaims{"nbf": 1e300}), "claims"},
		{"issued beyond time", bySecret, hs256(jwt.MapClaims{"iat": 1e300}), "claims"},
		{"issued before time", bySecret, hs256(jwt.MapClaims{"iat": -1e300}), "claims"},
		{"an expiry in milliseconds", bySecret, hs256(jwt.MapClaims{"exp": time.Now().UnixMilli()}), "claims"},
		{"a consumer that is too long", bySecret, hs256(jwt.MapClaims{"sub": strings.Repeat("x", 256)}), "consumer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, c.a, "", bearer(c.token))
			checkRefusal(t, got, http.StatusUnauthorized, c.reason, `Bearer error="invalid_token"`)
			if header := got.header.Get("WWW-Authenticate"); header != `Bearer error="invalid_token"` || strings.Contains(got.body, c.reason+":") {
				t.Errorf("want the client told no more than that the token is invalid, got %s, %s", header, got.body)
			}
			for _, part := range strings.Split(c.token, ".") {
				if part != "" && strings.Contains(got.body, part) {
					t.Errorf("the answer repeats the token: %s", got.body)
				}
			}
		})
	}
}

func TestAConsumerThatIsNotAStringIsRefused(t *testing.T) {
	a := withSecret(t, func(c *auth.JWTConfig) { c.ConsumerClaim = "customer" })
	for _, v := range []any{5, true, []string{"toto"}, map[string]any{"name": "toto"}} {
		got := ask(t, a, "", bearer(hs256(jwt.MapClaims{"customer": v})))
		checkRefusal(t, got, http.StatusUnauthorized, "consumer", `Bearer error="invalid_token"`)
	}
	checkAccepted(t, ask(t, a, "", bearer(hs256(jwt.MapClaims{"customer": "tata"}))), "tata")
}

func TestTheHeaderMayOnlyRepeatTheToken(t *testing.T) {
	a, token := withSecret(t, nil), hs256(nil)
	for _, names := range [][]string{{"toto"}, {""}, {"toto", "toto"}} {
		checkAccepted(t, ask(t, a, "", http.Header{"Authorization": {"Bearer " + token}, "X-Consumer-Id": names}), "toto")
	}
	for _, names := range [][]string{{"tata"}, {"toto", "tata"}, {"Toto"}} {
		got := ask(t, a, "", http.Header{"Authorization": {"Bearer " + token}, "X-Consumer-Id": names})
		checkRefusal(t, got, http.StatusForbidden, "contradiction", `Bearer error="insufficient_scope"`)
	}
}

func TestWhereTheTokenIs(t *testing.T) {
	a, token, other := withSecret(t, nil), hs256(nil), hs256(jwt.MapClaims{"sub": "tata"})
	query, cookie := "?access_token="+token, "session="+token
	for _, c := range []struct {
		name   string
		query  string
		header http.Header
		status int
		reason string
	}{
		{"header", "", bearer(token), 200, ""},
		{"header in lower case", "", http.Header{"Authorization": {"bearer " + token}}, 200, ""},
		{"cookie", "", http.Header{"Cookie": {"theme=dark; " + cookie}}, 200, ""},
		{"query", query + "&after=5", nil, 200, ""},
		{"query beside another scheme", query, http.Header{"Authorization": {"Basic dTpw"}}, 200, ""},
		{"query beside an empty cookie", query, http.Header{"Cookie": {"session="}}, 200, ""},
		{"nowhere", "", nil, 401, "missing"},
		{"only a consumer's name", "", http.Header{"X-Consumer-Id": {"toto"}}, 401, "missing"},
		{"an empty header", "", http.Header{"Authorization": {"Bearer "}}, 401, "missing"},
		{"another scheme", "", http.Header{"Authorization": {"Basic dTpw"}}, 401, "missing"},
		{"another cookie", "", http.Header{"Cookie": {"other=" + token}}, 401, "missing"},
		{"header and query", query, bearer(token), 400, "ambiguous"},
		{"header and cookie", "", http.Header{"Authorization": {"Bearer " + other}, "Cookie": {cookie}}, 400, "ambiguous"},
		{"cookie and query", query, http.Header{"Cookie": {cookie}}, 400, "ambiguous"},
		{"two headers", "", http.Header{"Authorization": {"Bearer " + token, "Bearer " + other}}, 400, "ambiguous"},
		{"two cookies", "", http.Header{"Cookie": {cookie + "; session=" + other}}, 400, "ambiguous"},
		{"query twice", query + "&access_token=" + other, nil, 400, "ambiguous"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, a, c.query, c.header)
			switch c.status {
			case http.StatusOK:
				checkAccepted(t, got, "toto")
			case http.StatusBadRequest:
				checkRefusal(t, got, c.status, c.reason, `Bearer error="invalid_request"`)
			default:
				checkRefusal(t, got, c.status, c.reason, "Bearer")
				if challenge := got.header.Get("WWW-Authenticate"); challenge != "Bearer" {
					t.Errorf("WWW-Authenticate without a token: got %q, want no error code", challenge)
				}
			}
			if strings.Contains(got.handlerIn+got.body, token) {
				t.Errorf("the token reached the handler or the answer: %s, %s", got.handlerIn, got.body)
			}
		})
	}
}

func TestTheCookieIsReadOnlyWhenConfigured(t *testing.T) {
	a := withSecret(t, func(c *auth.JWTConfig) { c.Cookie = "" })
	got := ask(t, a, "", http.Header{"Cookie": {"session=" + hs256(nil)}})
	checkRefusal(t, got, http.StatusUnauthorized, "missing", "Bearer")
}

func TestTheIdentityEndsWithTheToken(t *testing.T) {
	expiry := time.Now().Add(time.Hour).Truncate(time.Second)
	got := ask(t, withSecret(t, nil), "", bearer(hs256(jwt.MapClaims{"exp": expiry.Unix()})))
	if want := expiry.Add(30 * time.Second); !got.identity.Expires.Equal(want) {
		t.Errorf("expires: got %v, want exp and the clock skew, %v", got.identity.Expires, want)
	}
}

func TestIssuerAndAudienceAreCheckedOnlyWhenConfigured(t *testing.T) {
	a := withSecret(t, func(c *auth.JWTConfig) { c.Issuer, c.Audience = "", "" })
	checkAccepted(t, ask(t, a, "", bearer(hs256(jwt.MapClaims{"iss": nil, "aud": nil}))), "toto")
	checkAccepted(t, ask(t, a, "", bearer(hs256(jwt.MapClaims{"iss": "other", "aud": "other"}))), "toto")
}

func TestAWrongSettingIsNamed(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, set []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, set, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	weak := must(rsa.GenerateKey(rand.Reader, 1024))
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	for _, c := range []struct {
		name   string
		config auth.JWTConfig
		want   string
	}{
		{"no source of keys", auth.JWTConfig{}, "JWT_SECRET, JWT_JWKS_URL and JWT_JWKS_FILE"},
		{"two sources", auth.JWTConfig{HMACSecret: secret, JWKSFile: "x"}, "JWT_SECRET, JWT_JWKS_URL and JWT_JWKS_FILE"},
		{"a short secret", auth.JWTConfig{HMACSecret: secret[1:]}, "JWT_SECRET"},
		{"a negative clock skew", auth.JWTConfig{HMACSecret: secret, Leeway: -1}, "JWT_LEEWAY"},
		{"a URL without a host", auth.JWTConfig{JWKSURL: "https:jwks"}, "JWT_JWKS_URL"},
		{"a URL of another scheme", auth.JWTConfig{JWKSURL: "file:///jwks.json"}, "JWT_JWKS_URL"},
		{"a file that is not there", auth.JWTConfig{JWKSFile: filepath.Join(dir, "none")}, "JWT_JWKS_FILE"},
		{"a file that is not JSON", auth.JWTConfig{JWKSFile: file("text", []byte("keys"))}, "JWT_JWKS_FILE"},
		{"a file without keys", auth.JWTConfig{JWKSFile: file("empty", jwks())}, "JWT_JWKS_FILE"},
		{"a symmetric key", auth.JWTConfig{JWKSFile: file("oct", []byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"a"}]}`))}, "JWT_JWKS_FILE"},
		{"a weak RSA key", auth.JWTConfig{JWKSFile: file("weak", jwks(jwk(weak, jwkset.JWKMetadataOptions{KID: "a"})))}, "JWT_JWKS_FILE"},
		{"another curve", auth.JWTConfig{JWKSFile: file("p384", jwks(jwk(p384, jwkset.JWKMetadataOptions{KID: "a"})))}, "JWT_JWKS_FILE"},
		{"a key for encryption", auth.JWTConfig{JWKSFile: file("enc", jwks(jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "a", USE: jwkset.UseEnc})))}, "JWT_JWKS_FILE"},
		{"a key that does not verify", auth.JWTConfig{JWKSFile: file("wrap", jwks(jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "a", KEYOPS: []jwkset.KEYOPS{jwkset.KeyOpsWrapKey}})))}, "JWT_JWKS_FILE"},
		{"a key for another algorithm", auth.JWTConfig{JWKSFile: file("ps", jwks(jwk(rsaKey(), jwkset.JWKMetadataOptions{KID: "a", ALG: jwkset.AlgPS256})))}, "JWT_JWKS_FILE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := auth.JWT(t.Context(), c.config, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that names %s", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), secret[1:]) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestUnusableKeysDoNotSpoilASet(t *testing.T) {
	set := bytes.Replace(issuerKeys(), []byte(`{"keys":[`),
		[]byte(`{"keys":[{"kty":"new"},{"kty":"oct","k":"c2VjcmV0","kid":"rsa"},{"kty":"RSA","kid":"rsa","n":"!","e":"AQAB"},`), 1)
	checkAccepted(t, ask(t, withFile(t, set), "", bearer(rs256(kid("rsa")))), "toto")
}
