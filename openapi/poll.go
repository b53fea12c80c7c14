package openapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/danielgtaylor/huma/v2/negotiation"
	"github.com/klauspost/compress/gzip"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/problem"
)

const (
	pollPath = "/events/poll"
	// maxWait is the most seconds that a poll waits. Something in between may have less patience, as API Gateway has.
	maxWait = 300
	// patience is how long a poll may take besides its wait.
	patience = 4 * time.Second
	// writeTimeout bounds how long a client may take to receive an answer.
	writeTimeout = 30 * time.Second
)

// pollInput is the parameters of a poll. Huma reads and describes the integers. It takes the first of several values and
// an empty one for none, so what it makes of the others counts for nothing but that it knows their names: a cursor or a
// type that was overlooked would be answered with the wrong events.
type pollInput struct {
	After  string   `query:"after"`
	Wait   int      `query:"wait" default:"25" minimum:"0" maximum:"300" doc:"How many seconds to wait for the first event; 0 answers at once. An answer may come earlier, as a Lambda's does."`
	Limit  int      `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"The most events to answer."`
	Types  []string `query:"types,explode"`
	Topics []string `query:"topics,explode"`
	View   string   `query:"view" enum:"all,current" default:"all" doc:"current leaves out of history the events that a later one amends."`

	// Set by Resolve.
	poll     core.Poll
	applied  string   // the preference that was followed
	topics   []string // as asked for; nil if nothing was
	halfOpen bool     // the client may have closed its half of the connection
}

// Resolve implements huma.Resolver: it reads what Huma does not.
func (in *pollInput) Resolve(ctx huma.Context) (errs []error) {
	r, _ := humago.Unwrap(ctx)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return []error{&huma.ErrorDetail{Location: "query", Message: "cannot be decoded"}}
	}
	refuse := func(name, message string) {
		errs = append(errs, &huma.ErrorDetail{Location: "query." + name, Message: message, Value: strings.Join(query[name], ",")})
	}
	for _, name := range []string{"after", "limit", "view", "wait"} {
		if len(query[name]) > 1 {
			refuse(name, "is given more than once")
		}
	}
	in.poll = core.Poll{After: core.FromNow, Limit: in.Limit}
	if after := query["after"]; len(after) == 1 && after[0] != "" {
		if in.poll.After, err = core.ParseCursor(after[0]); err != nil {
			refuse("after", err.Error())
		}
	}
	if in.poll.Types, err = core.ParseTypes(query["types"]); err != nil {
		refuse("types", err.Error())
	}
	if in.topics, err = core.ParseTopics(query["topics"]); err != nil {
		refuse("topics", err.Error())
	}
	if in.poll.Current, err = core.ParseView(query.Get("view")); err != nil {
		refuse("view", err.Error())
	}
	wait := in.Wait
	if seconds, ok := preferredWait(r.Header.Values("Prefer")); ok && query.Get("wait") == "" {
		wait, in.applied = seconds, "wait="+strconv.Itoa(seconds)
	}
	if r.Method == http.MethodHead {
		wait = 0 // nobody will see what is waited for
	}
	in.poll.Wait = time.Duration(wait) * time.Second
	in.halfOpen = r.ProtoMajor == 1
	return errs
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
	var err error
	if in.poll.Topics, err = id.Follow(in.topics, c.Settings.MaxTopics); err != nil {
		return nil, c.problem(ctx, err)
	}
	if !id.Expires.IsZero() {
		in.poll.Wait = max(0, min(in.poll.Wait, time.Until(id.Expires)))
	}
	batch, err := c.answer(ctx, in)
	if err != nil {
		return nil, c.problem(ctx, err)
	}
	return &pollOutput{Body: func(ctx huma.Context) {
		if in.applied != "" {
			ctx.SetHeader("Preference-Applied", in.applied)
		}
		defer batch.Release()
		c.writeBatch(ctx, &batch)
	}}, nil
}

// answer asks for a batch, within bounded time. A client may close its half of a connection after its request and wait
// for the answer, as `nc -N` does (RFC 9293, section 3.6); net/http cannot tell it from one that has left. So it is
// answered with what there is, and none that has left is waited for.
func (c Config) answer(ctx context.Context, in *pollInput) (core.Batch, error) {
	waiting, cancel := context.WithTimeout(ctx, in.poll.Wait+patience)
	defer cancel()
	batch, err := c.Poller.Poll(waiting, in.poll)
	if err == nil || !in.halfOpen || !clientClosed(ctx) {
		return batch, err
	}
	now := in.poll
	now.Wait = 0
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return c.Poller.Poll(last, now)
}

// clientClosed reports that a request's context ended because of its connection, and not because the service is being
// stopped.
func clientClosed(ctx context.Context) bool {
	return errors.Is(ctx.Err(), context.Canceled) && errors.Is(context.Cause(ctx), context.Canceled)
}

// gzipWriters are kept, because each takes about a megabyte.
var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

// compress returns a body as it is sent: with gzip if it has more than 1 KiB and the client takes it (RFC 9110,
// section 12.5.3). What middleware for it would do beside that, zstd, makes half a megabyte of each program.
func compress(body []byte, accept []string, answer http.Header) []byte {
	answer.Add("Vary", "Accept-Encoding")
	// The names of codings are case-insensitive (RFC 9110, section 8.4.1). The first choice, which no client names, is
	// there because SelectQValue returns it even at a weight of 0.
	taken := negotiation.SelectQValue(strings.ToLower(strings.Join(accept, ",")), []string{"none", "gzip"})
	if len(body) <= 1<<10 || taken != "gzip" {
		return body
	}
	answer.Set("Content-Encoding", "gzip")
	var compressed bytes.Buffer
	w := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	w.Reset(&compressed)
	_, _ = w.Write(body) // a buffer takes everything
	_ = w.Close()
	w.Reset(io.Discard) // so that the pool keeps no body
	return compressed.Bytes()
}

// writeBatch answers with a batch. The deadline is taken back for the connection's next request, and what is
// buffered must leave before it is. Without a connection behind w there is nothing to wait for.
func (c Config) writeBatch(ctx huma.Context, batch *core.Batch) {
	r, w := humago.Unwrap(ctx)
	body := make([]byte, 0, batchSize(batch, c.Settings.Source))
	w.Header().Add("Vary", "Accept")
	if takesCloudEvents(r.Header.Values("Accept")) {
		body = appendCloudEvents(body, *batch, c.Settings.Source)
		w.Header().Set("Content-Type", cloudEvents)
		w.Header().Set(cursorHeader, strconv.FormatInt(batch.Cursor, 10))
		w.Header().Set(moreHeader, strconv.FormatBool(batch.More))
	} else {
		body = appendBatch(body, *batch)
		w.Header().Set("Content-Type", "application/json")
	}
	batch.Events = nil // from now on the body is what waits for the client
	batch.Built(cap(body))
	body = compress(body, r.Header.Values("Accept-Encoding"), w.Header()) // all of it, so that no writer waits for the client
	batch.Built(cap(body))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	conn := http.NewResponseController(w)
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	last := len(body) - 1
	if _, err := w.Write(body[:last]); err != nil {
		return // the client is gone, and the connection with it
	}
	batch.Release() // before the client can know that it is answered, and ask again
	_, _ = w.Write(body[last:])
	if conn.Flush() == nil {
		_ = conn.SetWriteDeadline(time.Time{})
	}
}
