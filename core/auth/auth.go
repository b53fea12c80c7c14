// Package auth says who is asking: which consumer a request may read the events of, and until when.
//
// There are two ways. [Gateway] believes a header, for a service that only an authenticating gateway can
// reach. [JWT] checks a bearer token itself. Both refuse with an [Error], and [Middleware] puts either in
// front of a handler. A token is never logged, never echoed, and hidden from the handlers behind.
package auth

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/problem"
)

// ConsumerHeader names the consumer. With [Gateway] it is the identity; with [JWT] it may only repeat it.
const ConsumerHeader = "X-Consumer-Id"

// TopicsHeader lists what the consumer is granted, in the form of core.ParseGrants. Only [Gateway] reads it.
const TopicsHeader = "X-Consumer-Topics"

// Identity is who is asking.
type Identity struct {
	// Consumer passes core.CheckName.
	Consumer string
	// Grants are the topics that the consumer may read besides its own address.
	Grants core.Grants
	// Expires is when the identity must no longer be believed, so when a stream ends; zero is never.
	Expires time.Time
}

// Follow returns the topics that a session of the consumer follows, as core.Grants does. They may outlive the
// request that named them.
func (id Identity) Follow(asked []string, most int) ([]string, error) {
	topics, err := id.Grants.Follow(id.Consumer, asked, most)
	for i := range topics {
		topics[i] = strings.Clone(topics[i]) // not the whole request's header with it
	}
	return topics, err
}

// Authenticator tells who sent a request. An error it returns is an [*Error], and it never changes the
// request. It is safe for concurrent use.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// Reasons are why requests are refused, fit for the label of a metric.
var Reasons = []string{
	"missing", "ambiguous", "malformed", "algorithm", "key", "signature", "issuer", "audience", "expired",
	"early", "claims", "consumer", "topics", "contradiction", "unavailable",
}

// Error is a refusal. None of it repeats what the client sent.
type Error struct {
	// Status is 400, 401, 403 or 503.
	Status int
	// Reason is one of [Reasons].
	Reason string
	// Cause says more than Reason, for the log alone: which check a token failed helps whoever forges one.
	Cause string
	// Detail is public: it says what the client can do about it.
	Detail string
	// Challenge is the WWW-Authenticate header, which every 401 must have (RFC 9110, section 11.6.1).
	Challenge string
}

func (e *Error) Error() string {
	if e.Cause != "" {
		return e.Reason + ": " + e.Cause
	}
	return e.Reason + ": " + e.Detail
}

type contextKey struct{}

// NewContext returns a context that carries an identity.
func NewContext(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, contextKey{}, id)
}

// FromContext returns the identity that [Middleware] or [NewContext] put into a context.
func FromContext(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(contextKey{}).(Identity)
	return id, ok
}

// Middleware lets through the requests that a knows, with their [Identity] in the context and without
// access_token in the URL, and answers the others with a problem. It reports each refusal to refused, which
// may be nil, before it answers.
func Middleware(a Authenticator, refused func(*http.Request, *Error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, err := a.Authenticate(r)
			if err != nil {
				var refusal *Error
				if !errors.As(err, &refusal) {
					refusal = unavailable("unavailable")
				}
				if refused != nil {
					refused(r, refusal)
				}
				refusal.write(w)
				return
			}
			next.ServeHTTP(w, hideToken(r.WithContext(NewContext(r.Context(), id))))
		})
	}
}

func (e *Error) write(w http.ResponseWriter) {
	if e.Challenge != "" {
		w.Header().Set("WWW-Authenticate", e.Challenge)
	}
	p := problem.New(e.Status, e.Detail)
	if e.Status == http.StatusServiceUnavailable {
		p = problem.RetryLater(e.Status, e.Detail)
	}
	p.Write(w)
}

// unavailable refuses for now: a 401 would make clients throw their token away.
func unavailable(reason string) *Error {
	return &Error{
		Status: http.StatusServiceUnavailable,
		Reason: reason,
		Detail: "who is asking cannot be checked right now",
	}
}
