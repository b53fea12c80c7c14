// Package problem writes errors as RFC 9457 application/problem+json, the one form in which every route
// of every binary reports them. What it is given is public: causes go to the log.
package problem

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// ContentType is the media type of a problem (RFC 9457, section 3).
const ContentType = "application/problem+json"

// Problem describes one error to a client.
type Problem struct {
	// Title defaults to the status text, as RFC 9457 asks where the type is "about:blank".
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail says what this client can do about this occurrence.
	Detail string `json:"detail,omitempty"`
	// Reason, Oldest and Newest describe a cursor that cannot be continued (410).
	Reason string `json:"reason,omitempty"`
	Oldest *int64 `json:"oldest,omitempty"`
	Newest *int64 `json:"newest,omitempty"`
	// RetryAfter goes into the header of that name, in whole seconds, when positive.
	RetryAfter time.Duration `json:"-"`
}

// New returns a problem of a status with a detail.
func New(status int, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// RetryLater returns a 429 or 503 whose Retry-After is jittered, so that the clients refused in one
// instant do not return in one.
func RetryLater(status int, detail string) *Problem {
	p := New(status, detail)
	p.RetryAfter = time.Second + rand.N(4*time.Second)
	return p
}

func (p *Problem) Error() string { return p.Detail }

// Write answers a request with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(p.RetryAfter.Round(time.Second)/time.Second)))
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone when this fails
}
