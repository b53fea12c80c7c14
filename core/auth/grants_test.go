package auth_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
)

func follows(t *testing.T, g core.Grants) string {
	t.Helper()
	topics, err := g.Follow("toto", nil, core.MaxGrants)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(topics, "|")
}

func TestGatewayGrantsTheTopicsOfItsHeader(t *testing.T) {
	for _, c := range []struct {
		values []string
		want   string
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"team-7, order-*,a%2Cb"}, "team-7|a,b"},
		{[]string{"team-7", "team-7"}, "team-7"},
	} {
		got := ask(t, auth.Gateway(), "", http.Header{"X-Consumer-Id": {"toto"}, "X-Consumer-Topics": c.values})
		checkAccepted(t, got, "toto")
		if f := follows(t, got.identity.Grants); f != c.want {
			t.Errorf("%q grants %q, want %q", c.values, f, c.want)
		}
	}
}

func TestGatewayRefusesTopicsThatCannotBeRead(t *testing.T) {
	for _, c := range []struct {
		values []string
		reason string
	}{
		{[]string{"team-7", "team-8"}, "ambiguous"}, // as a client's own header before the gateway's would be
		{[]string{"", "team-8"}, "ambiguous"},
		{[]string{"100%"}, "topics"},
		{[]string{"a%00"}, "topics"},
		{[]string{strings.Repeat("x", 256)}, "topics"},
	} {
		got := ask(t, auth.Gateway(), "", http.Header{"X-Consumer-Id": {"toto"}, "X-Consumer-Topics": c.values})
		checkRefusal(t, got, http.StatusBadRequest, c.reason, "")
	}
}

func TestJWTGrantsTheTopicsOfItsClaim(t *testing.T) {
	withClaim := withSecret(t, func(c *auth.JWTConfig) { c.TopicsClaim = "topics" })
	for _, c := range []struct {
		name  string
		claim any
		want  string
	}{
		{"no claim", nil, ""},
		{"an empty array", []string{}, ""},
		{"an array, names as they are", []string{"team-7", "a, b", "100%", "order-*"}, "team-7|a, b|100%"},
		{"a string with spaces", "team-7  order-* team-8", "team-7|team-8"},
		{"a string of names with other spaces", "team\u00a07 team\u30008", "team\u00a07|team\u30008"},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := bearer(hs256(jwt.MapClaims{"topics": c.claim}))
			header.Set("X-Consumer-Topics", "secret") // means nothing here
			got := ask(t, withClaim, "", header)
			checkAccepted(t, got, "toto")
			if f := follows(t, got.identity.Grants); f != c.want {
				t.Errorf("follows %q, want %q", f, c.want)
			}
		})
	}
	got := ask(t, withSecret(t, nil), "", bearer(hs256(jwt.MapClaims{"topics": "team-7"})))
	if f := follows(t, got.identity.Grants); f != "" {
		t.Errorf("a claim that no setting names grants %q", f)
	}
}

func TestJWTRefusesAClaimOfTopicsThatCannotBeRead(t *testing.T) {
	withClaim := withSecret(t, func(c *auth.JWTConfig) { c.TopicsClaim = "topics" })
	for _, claim := range []any{7, true, map[string]any{"a": 1}, []any{"a", 7}, "a\nb", "a\tb", []string{""}, []string{"a\nb"}, []string{strings.Repeat("x", 256)}} {
		got := ask(t, withClaim, "", bearer(hs256(jwt.MapClaims{"topics": claim})))
		checkRefusal(t, got, http.StatusUnauthorized, "topics", "Bearer")
	}
}
