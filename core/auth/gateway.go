package auth

import (
	"net/http"

	"github.com/event-piper/event-piper/core"
)

// Gateway believes [ConsumerHeader] and [TopicsHeader], so it trusts that only a gateway which authenticates,
// and always sets or removes both, can reach the service. The identity never expires: the gateway ends what
// it no longer allows.
func Gateway() Authenticator { return gateway{} }

type gateway struct{}

func (gateway) Authenticate(r *http.Request) (Identity, error) {
	consumer, err := sole(r, ConsumerHeader)
	switch {
	case err != nil:
		return Identity{}, err
	case consumer == "":
		return Identity{}, noConsumer()
	}
	if err := core.CheckName(consumer); err != nil {
		return Identity{}, &Error{
			Status: http.StatusBadRequest,
			Reason: "consumer",
			Detail: ConsumerHeader + " " + err.Error(),
		}
	}
	topics, err := sole(r, TopicsHeader)
	if err != nil {
		return Identity{}, err
	}
	grants, err := core.ParseGrants([]string{topics})
	if err != nil {
		return Identity{}, &Error{
			Status: http.StatusBadRequest,
			Reason: "topics",
			Detail: TopicsHeader + ": " + err.Error(),
		}
	}
	return Identity{Consumer: consumer, Grants: grants}, nil
}

// sole returns the value of a header that the gateway sets, "" without one. A gateway that adds its header to
// the client's instead of replacing it must not be guessed at.
func sole(r *http.Request, header string) (string, error) {
	values := r.Header.Values(header)
	if len(values) == 0 {
		return "", nil
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return "", &Error{
				Status: http.StatusBadRequest,
				Reason: "ambiguous",
				Detail: header + " is given more than once, with different values",
			}
		}
	}
	return values[0], nil
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
