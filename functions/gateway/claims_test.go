package gateway_test

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/functions/gateway"
)

func TestTheConsumerIsTheTokens(t *testing.T) {
	token := func(claims map[string]string) *events.APIGatewayV2HTTPRequestContextAuthorizerDescription {
		return &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
			JWT: &events.APIGatewayV2HTTPRequestContextAuthorizerJWTDescription{Claims: claims},
		}
	}
	for name, c := range map[string]struct {
		header     string
		authorizer *events.APIGatewayV2HTTPRequestContextAuthorizerDescription
		want       string
	}{
		"the mapping did its work":           {"toto", token(map[string]string{"sub": "toto"}), "toto"},
		"the header is the client's":         {"titi", token(map[string]string{"sub": "toto"}), ""},
		"the token has no subject":           {"titi", token(map[string]string{"aud": "titi"}), ""},
		"the gateway joined two headers":     {"toto,titi", token(map[string]string{"sub": "toto"}), ""},
		"another authorizer, or none at all": {"titi", nil, "titi"},
	} {
		t.Run(name, func(t *testing.T) {
			e := event("/events/poll")
			e.Headers = map[string]string{"x-consumer-id": c.header}
			e.RequestContext.Authorizer = c.authorizer
			var got string
			silent := slog.New(slog.DiscardHandler)
			h := gateway.Claimed("sub", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = r.Header.Get(auth.ConsumerHeader)
			}), silent)
			if _, err := gateway.Handler(h, http.NewServeMux(), silent)(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("want the consumer %q, got %q", c.want, got)
			}
		})
	}
}
