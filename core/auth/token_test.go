package auth_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
)

func TestRedactURL(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"/events", "/events"},
		{"/events?after=5&types=a,b", "/events?after=5&types=a,b"},
		{"/a%20b?after=5", "/a%20b?after=5"},
		{"https://u:p@host/events?access_token=s3cret", "/events?access_token=REDACTED"},
		{"/events?after=5&access_token=s3cret&types=a", "/events?after=5&access_token=REDACTED&types=a"},
		{"/events?access_token=s3cret&access_token=s3cret", "/events?access_token=REDACTED&access_token=REDACTED"},
		{"/events?access%5Ftoken=s3cret", "/events?access_token=REDACTED"},
		{"/events?Access_Token=s3cret", "/events?access_token=REDACTED"},
		{"/events?after=5;access_token=s3cret", "/events?access_token=REDACTED"},
		{"/events?access_token=s3cret;after=5", "/events?access_token=REDACTED"},
		{"/events?access%5Ftoken=s3cret%zz", "/events?REDACTED"},
		{"/events/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0b3RvIn0.c2lnbmF0dXJl/x", "/events/REDACTED/x"},
		{"/eyJhbGciOiJIUzI1NiJ9%2EeyJzdWIiOiJ0b3RvIn0%2Ec2ln", "/REDACTED"},
		{"/ewogImFsZyI6ICJIUzI1NiJ9.ewogInN1YiI6ICJ0b3RvIn0.c2lnbmF0dXJl", "/REDACTED"},
		{"/events;access_token=s3cret", "/REDACTED"},
		{"/%61ccess_token=s3cret", "/REDACTED"},
		{"/events?token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0b3RvIn0.c2ln&after=5", "/events?token=REDACTED&after=5"},
		{"/events?eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0b3RvIn0.c2ln", "/events?=REDACTED"},
		{"/events?types=order.created,order.paid", "/events?types=order.created,order.paid"},
		{"/events?access_token", "/events?access_token=REDACTED"},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := auth.RedactURL(u); got != c.want {
			t.Errorf("%s: got %s, want %s", c.url, got, c.want)
		}
	}
}

func FuzzRedactURL(f *testing.F) {
	f.Add("after=1&access_token=")
	f.Add("a;access%5ftoken=")
	f.Add("%zz&&=access_token=")
	f.Fuzz(func(t *testing.T, before string) {
		const secret = "s3cret"
		u := &url.URL{Path: "/events", RawQuery: before + secret}
		for _, token := range u.Query()["access_token"] {
			if strings.Contains(token, secret) && strings.Contains(auth.RedactURL(u), secret) {
				t.Errorf("%q: got %s, with the token in it", u.RawQuery, auth.RedactURL(u))
			}
		}
	})
}

func FuzzAToken(f *testing.F) {
	a, err := auth.JWT(f.Context(), auth.JWTConfig{HMACSecret: secret}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hs256(nil))
	f.Add("e30.e30.")
	f.Add("eyJhbGciOiJIUzI1NiJ9.bnVsbA.AA")
	f.Fuzz(func(t *testing.T, token string) {
		r := httptest.NewRequest(http.MethodGet, "/events", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		id, err := a.Authenticate(r)
		var refusal *auth.Error
		if err != nil && (!errors.As(err, &refusal) || refusal.Status != http.StatusUnauthorized) {
			t.Errorf("%q: got %v, want a refusal with 401", token, err)
		}
		if err == nil && (core.CheckName(id.Consumer) != nil || id.Expires.IsZero()) {
			t.Errorf("%q: got %+v, want a consumer and an end", token, id)
		}
	})
}

func TestHandlersDoNotSeeTheToken(t *testing.T) {
	got := ask(t, auth.Gateway(), "?after=5&access_token=s3cret&access%5Ftoken=s3cret&types=a%2Cb",
		http.Header{"X-Consumer-Id": {"toto"}})
	const want = "/events?after=5&types=a%2Cb /events?after=5&types=a%2Cb"
	if got.handlerIn != want {
		t.Errorf("URL and request URI: got %s, want %s", got.handlerIn, want)
	}
}
