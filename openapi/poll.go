package openapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/problem"
)

const (
	pollPath = "/events/poll"
	// maxWait is the most seconds a poll waits: API Gateway gives an answer that long.
	maxWait, defaultWait   = 30, 25
	maxLimit, defaultLimit = 1000, 100
	// writeTimeout bounds how long a client may take to receive an answer.
	writeTimeout = 30 * time.Second
)

// pollInput is the parameters of a poll. Huma refuses those that are not here.
type pollInput struct {
	After  string   `query:"after"`
	Wait   string   `query:"wait"`
	Limit  string   `query:"limit"`
	Types  []string `query:"types,explode"`
	Prefer string   `header:"Prefer"`

	// Set by Resolve.
	poll    core.Poll
	applied string // the preference that was followed
}

// Resolve implements huma.Resolver: it reads the parameters, as Huma takes the first of several values and
// an empty one for none. A cursor that was overlooked would be answered with lost events.
func (in *pollInput) Resolve(ctx huma.Context) []error {
	r, _ := humago.Unwrap(ctx)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return []error{&huma.ErrorDetail{Location: "query", Message: "cannot be decoded"}}
	}
	p := parameters{query: query}
	in.poll = core.Poll{After: p.cursor("after"), Types: p.types("types"), Limit: p.integer("limit", defaultLimit, 1, maxLimit)}
	wait := p.integer("wait", defaultWait, 0, maxWait)
	if seconds, ok := preferredWait(r.Header.Values("Prefer")); ok && query.Get("wait") == "" {
		wait, in.applied = seconds, "wait="+strconv.Itoa(seconds)
	}
	if r.Method == http.MethodHead {
		wait = 0 // nobody will see what is waited for
	}
	in.poll.Wait = time.Duration(wait) * time.Second
	return p.errs
}

// parameters reads a query and collects what is wrong with it.
type parameters struct {
	query url.Values
	errs  []error
}

func (p *parameters) refuse(name, message string) {
	p.errs = append(p.errs, &huma.ErrorDetail{Location: "query." + name, Message: message, Value: strings.Join(p.query[name], ",")})
}

// one returns the only value of a parameter, or "" without one.
func (p *parameters) one(name string) string {
	values := p.query[name]
	if len(values) > 1 {
		p.refuse(name, "is given more than once")
		return ""
	}
	return p.query.Get(name)
}

func (p *parameters) cursor(name string) int64 {
	value := p.one(name)
	if value == "" {
		return core.FromNow
	}
	cursor, err := core.ParseCursor(value)
	if err != nil {
		p.refuse(name, err.Error())
	}
	return cursor
}

func (p *parameters) types(name string) core.Types {
	types, err := core.ParseTypes(p.query[name])
	if err != nil {
		p.refuse(name, err.Error())
	}
	return types
}

func (p *parameters) integer(name string, otherwise, least, most int) int {
	value := p.one(name)
	if value == "" {
		return otherwise
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		p.refuse(name, fmt.Sprintf("is not an integer from %d to %d", least, most))
	}
	return n
}

// preferredWait reads the wait preference (RFC 7240, section 4.3). Only the first counts, and one that cannot
// be followed is ignored or, if it is too long, followed as far as possible.
func preferredWait(headers []string) (seconds int, ok bool) {
	for p := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		p, _, _ = strings.Cut(p, ";")
		name, value, _ := strings.Cut(p, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		return int(min(n, maxWait)), err == nil
	}
	return 0, false
}

// pollOutput writes the answer itself, since Huma would read every payload again to encode it.
type pollOutput struct {
	Body func(huma.Context)
}

func (c Config) poll(ctx context.Context, in *pollInput) (*pollOutput, error) {
	id, ok := auth.FromContext(ctx)
	if !ok {
		return nil, &Problem{Problem: *problem.New(http.StatusUnauthorized, "who is asking is not known")}
	}
	in.poll.Consumer = id.Consumer
	if !id.Expires.IsZero() {
		in.poll.Wait = max(0, min(in.poll.Wait, time.Until(id.Expires)))
	}
	batch, err := c.Poller.Poll(ctx, in.poll)
	if err != nil {
		return nil, c.problem(ctx, err)
	}
	return &pollOutput{Body: func(ctx huma.Context) {
		if in.applied != "" {
			ctx.SetHeader("Preference-Applied", in.applied)
		}
		defer batch.Release()
		writeBatch(ctx, batch)
	}}, nil
}

// writeBatch answers with a batch. The deadline is taken back for the connection's next request, and what is
// buffered must leave before it is. Without a connection behind w there is nothing to wait for.
func writeBatch(ctx huma.Context, batch core.Batch) {
	_, w := humago.Unwrap(ctx)
	body := appendBatch(nil, batch)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	conn := http.NewResponseController(w)
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	last := len(body) - 1
	if _, err := w.Write(body[:last]); err != nil {
		return // the client is gone, and the connection with it
	}
	batch.Release() // before the client can know that it is answered, and ask again
	if _, err := w.Write(body[last:]); err != nil {
		return
	}
	if conn.Flush() == nil {
		_ = conn.SetWriteDeadline(time.Time{})
	}
}
