package auth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/problem"
)

// answer is what a client saw and what the service noted.
type answer struct {
	status    int
	body      string
	header    http.Header
	refused   []string
	identity  auth.Identity
	handlerIn string // the URL the handler saw
}

// ask sends a request through the middleware over real HTTP.
func ask(t *testing.T, a auth.Authenticator, query string, header http.Header) answer {
	t.Helper()
	var got answer
	s := httptest.NewServer(auth.Middleware(a, func(_ *http.Request, e *auth.Error) { got.refused = append(got.refused, e.Reason) })(
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got.identity, _ = auth.FromContext(r.Context())
			got.handlerIn = r.URL.String() + " " + r.RequestURI
		})))
	defer s.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	w, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	var body strings.Builder
	if err := w.Write(&body); err != nil {
		t.Fatal(err)
	}
	got.status, got.header, got.body = w.StatusCode, w.Header, body.String()
	return got
}

func checkRefusal(t *testing.T, got answer, status int, reason, challenge string) {
	t.Helper()
	if got.status != status {
		t.Errorf("status: got %d, want %d", got.status, status)
	}
	if len(got.refused) != 1 || got.refused[0] != reason {
		t.Errorf("refusals noted: got %q, want [%q]", got.refused, reason)
	}
	if !slices.Contains(auth.Reasons, reason) {
		t.Errorf("the reason %q is none of those that metrics tell apart", reason)
	}
	if c := got.header.Get("WWW-Authenticate"); !strings.HasPrefix(c, challenge) || (challenge == "") != (c == "") {
		t.Errorf("WWW-Authenticate: got %q, want %q…", c, challenge)
	}
	if c := got.header.Get("Content-Type"); c != problem.ContentType {
		t.Errorf("Content-Type: got %q, want %q", c, problem.ContentType)
	}
	if r := got.header.Get("Retry-After"); (r != "") != (status == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After: got %q with status %d, want it with 503 only", r, status)
	}
	if got.identity.Consumer != "" || got.handlerIn != "" {
		t.Errorf("the handler was reached, as %+v, in spite of the refusal", got.identity)
	}
}

func checkAccepted(t *testing.T, got answer, consumer string) {
	t.Helper()
	if got.status != http.StatusOK || got.identity.Consumer != consumer || len(got.refused) != 0 {
		t.Errorf("got status %d, consumer %q, refusals %q; want 200, %q and none",
			got.status, got.identity.Consumer, got.refused, consumer)
	}
}

func TestGatewayBelievesItsHeader(t *testing.T) {
	for _, name := range []string{"toto", "a, b", "Zoë", strings.Repeat("ü", 255)} {
		got := ask(t, auth.Gateway(), "", http.Header{"X-Consumer-Id": {name}})
		checkAccepted(t, got, name)
		if !got.identity.Expires.IsZero() {
			t.Errorf("expires %v, want never", got.identity.Expires)
		}
	}
	checkAccepted(t, ask(t, auth.Gateway(), "", http.Header{"X-Consumer-Id": {"toto", "toto"}}), "toto")
}

func TestGatewayRefuses(t *testing.T) {
	for _, c := range []struct {
		name      string
		values    []string
		status    int
		reason    string
		challenge string
	}{
		{"no header", nil, 401, "missing", "Gateway"},
		{"an empty header", []string{""}, 401, "missing", "Gateway"},
		{"two consumers", []string{"toto", "tata"}, 400, "ambiguous", ""},
		{"an empty one before one", []string{"", "tata"}, 400, "ambiguous", ""},
		{"a control character", []string{"to\tto"}, 400, "consumer", ""},
		{"not UTF-8", []string{"to\xffto"}, 400, "consumer", ""},
		{"too long", []string{strings.Repeat("x", 256)}, 400, "consumer", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, auth.Gateway(), "", http.Header{"X-Consumer-Id": c.values})
			checkRefusal(t, got, c.status, c.reason, c.challenge)
		})
	}
}

func TestContextCarriesTheIdentity(t *testing.T) {
	want := auth.Identity{Consumer: "toto", Expires: time.Unix(1, 0)}
	if got, ok := auth.FromContext(auth.NewContext(t.Context(), want)); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v, true", got, ok, want)
	}
	if got, ok := auth.FromContext(context.Background()); ok {
		t.Errorf("an empty context has identity %+v, want none", got)
	}
}

type failing struct{}

func (failing) Authenticate(*http.Request) (auth.Identity, error) {
	return auth.Identity{}, errors.New("secret cause")
}

func TestAnUnknownErrorIsNotShown(t *testing.T) {
	got := ask(t, failing{}, "", nil)
	checkRefusal(t, got, http.StatusServiceUnavailable, "unavailable", "")
	if strings.Contains(got.body, "secret") {
		t.Errorf("the cause is in the answer: %s", got.body)
	}
}
