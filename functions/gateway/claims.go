package gateway

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/event-piper/event-piper/core/auth"
)

type claimsKey struct{}

// withClaims keeps what the API's JWT authorizer has verified beside the request, where no client can write.
func withClaims(ctx context.Context, claims map[string]string) context.Context {
	return context.WithValue(ctx, claimsKey{}, claims)
}

// Claimed takes the consumer off a request whose token the API has verified and which names another: the mapping that
// sets the header to the claim is missing or wrong, and the header may be the client's. Where there was no JWT authorizer there is
// nothing to compare with.
func Claimed(claim string, next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, verified := r.Context().Value(claimsKey{}).(map[string]string)
		consumer := r.Header.Get(auth.ConsumerHeader)
		if verified && consumer != "" && (consumer != claims[claim] || len(r.Header.Values(auth.ConsumerHeader)) > 1) {
			log.Error("the consumer is not the token's: check the API's mapping of "+auth.ConsumerHeader, "claim", claim)
			r.Header.Del(auth.ConsumerHeader)
		}
		next.ServeHTTP(w, r)
	})
}
