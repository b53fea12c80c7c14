package auth

import (
	"net/http"

	"github.com/event-piper/event-piper/core"
)

// Gateway believes [ConsumerHeader], so it trusts that only a gateway which authenticates and always sets
// or removes that header can reach the service. The identity never expires: the gateway ends what it
// no longer allows.
func Gateway() Authenticator { return gateway{} }

type gateway struct{}

func (gateway) Authenticate(r *http.Request) (Identity, error) {
	values := r.Header.Values(ConsumerHeader)
	if len(values) == 0 {
		return Identity{}, noConsumer()
	}
	for _, v := range values[1:] {
		// A gateway that adds its header to the client's instead of replacing it must not be guessed at.
		if v != values[0] {
			return Identity{}, &Error{
				Status: http.StatusBadRequest,
				Reason: "ambiguous",
				Detail: ConsumerHeader + " is given more than once, with different values",
			}
		}
	}
	if values[0] == "" {
		return Identity{}, noConsumer()
	}
	if err := core.CheckName(values[0]); err != nil {
		return Identity{}, &Error{
			Status: http.StatusBadRequest,
			Reason: "consumer",
			Detail: ConsumerHeader + " " + err.Error(),
		}
	}
	return Identity{Consumer: values[0]}, nil
}

func noConsumer() *Error {
	return &Error{
		Status: http.StatusUnauthorized,
		Reason: "missing",
		Detail: ConsumerHeader + " is missing",
		// How to authenticate is the gateway's affair; this only names what it has to send.
		Challenge: `Gateway header="` + ConsumerHeader + `"`,
	}
}
