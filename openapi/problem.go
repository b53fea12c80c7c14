package openapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/problem"
)

// Problem is a problem as all routes report it, and what is wrong with which parameter. It is Huma's error.
type Problem struct {
	problem.Problem
	// Errors says what is wrong with each parameter (422).
	Errors []*huma.ErrorDetail `json:"errors,omitempty"`
}

// TransformSchema implements huma.SchemaTransformer, for the members that are described nowhere else.
func (*Problem) TransformSchema(schemas huma.Registry, s *huma.Schema) *huma.Schema {
	for name, description := range map[string]string{
		"title":  "The status in words.",
		"status": "The HTTP status.",
		"detail": "What is wrong with this request, and what can be done about it.",
		"reason": "Why a cursor cannot be continued (410).",
		"oldest": "The cursor from which nothing of this consumer was deleted, or the id of the oversized event (410).",
		"newest": "The cursor of a reader that has seen everything (410).",
		"errors": "What is wrong with each parameter (422).",
	} {
		s.Properties[name].Description = description
	}
	s.Properties["reason"].Enum = []any{string(core.Pruned), string(core.Ahead), string(core.Oversized)}
	detail := schemas.SchemaFromRef(s.Properties["errors"].Items.Ref)
	detail.Required = []string{"message", "location"}
	detail.Properties["message"].Description = "What is wrong."
	detail.Properties["location"].Description = "Where, such as query.wait."
	detail.Properties["value"].Description = "What was given."
	return s
}

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	if p.RetryAfter <= 0 {
		return nil
	}
	return http.Header{"Retry-After": {strconv.Itoa(int(p.RetryAfter.Round(time.Second) / time.Second))}}
}

// ContentType implements huma.ContentTypeFilter.
func (*Problem) ContentType(string) string { return problem.ContentType }

// newError makes the problems that Huma itself finds.
func newError(status int, detail string, errs ...error) huma.StatusError {
	if status >= http.StatusInternalServerError {
		return internalError()
	}
	p := &Problem{Problem: *problem.New(status, detail)}
	for _, err := range errs {
		if d, ok := err.(huma.ErrorDetailer); ok { // Huma's own are never wrapped
			p.Errors = append(p.Errors, d.ErrorDetail())
		}
	}
	return p
}

// internalError tells nothing of its cause, which belongs into the log.
func internalError() *Problem {
	return &Problem{Problem: *problem.New(http.StatusInternalServerError, "")}
}

// statusClientGone is what nginx logs for a client that has left; nobody receives it.
const statusClientGone = 499

// problem maps an error of a poll to what the client may know of it.
func (c Config) problem(ctx context.Context, err error) *Problem {
	p := problem.Of(err)
	switch {
	case p != nil:
	case clientClosed(ctx):
		p = problem.New(statusClientGone, "")
	case errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil: // the latter when the service is being stopped
		p = problem.Of(core.ErrUnavailable)
	default:
		c.Log.ErrorContext(ctx, "cannot answer a poll", "error", err)
		return internalError()
	}
	return &Problem{Problem: *p}
}
