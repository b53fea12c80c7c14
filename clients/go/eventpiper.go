// Package eventpiper receives events from Event Piper: each one once and in ascending order of ids, across restarts of
// the service and faults of what is between. They arrive by a stream (Server-Sent Events), or by long-polling where no
// stream gets through.
//
// It needs the standard library alone, and is a module of its own so that it brings none of the service's
// dependencies along.
package eventpiper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"
)

// FromNow is the cursor of a subscription to what happens from now on.
const FromNow = -1

// An Event is a row of the table events.
type Event struct {
	ID      int64           `json:"id"` // its position: ids only rise
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"` // exact: numbers of any size

	// The rest is told with FormatEvent only.
	Timestamp   string `json:"timestamp"`   // RFC 3339
	Subscriber  string `json:"subscriber"`  // the address it is for: the consumer, or a topic that it follows
	Amends      int64  `json:"amends"`      // the earlier event that it amends, 0 if none
	Traceparent string `json:"traceparent"` // the W3C Trace Context in which it was inserted, empty if none
}

// FormatEvent is the format in which an event tells its timestamp, subscriber, amends and traceparent, too.
const FormatEvent = "event"

// A Reset says that the events could not go on from the cursor without a gap.
type Reset struct {
	// Reason is "pruned" (retention has deleted events after the cursor), "ahead" (the cursor is beyond the newest
	// event, so the database is an older one), "oversized" (an event is larger than the service delivers), or one that
	// was added since.
	Reason         string
	Oldest, Newest int64
	Cursor         int64 // where the events go on
}

func (r *Reset) Error() string {
	return fmt.Sprintf("eventpiper: reset: %s: the events go on after %d", r.Reason, r.Cursor)
}

// A StatusError is an answer that is neither a stream nor a page of events.
type StatusError struct {
	Code       int
	URL        string
	RetryAfter time.Duration
}

func (e *StatusError) Error() string { return fmt.Sprintf("eventpiper: %d from %s", e.Code, e.URL) }

// A Subscription says what to receive. Its zero values are the defaults, but for URL and Cursor.
type Subscription struct {
	// URL ends in /events and may have types in its query.
	URL string
	// Cursor is what to start after: 0 is the beginning, FromNow is what happens from now on. Run moves it, past an
	// event when the handler has returned.
	Cursor int64
	// Format is FormatEvent, or empty for events of an id, a type and a payload.
	Format string
	// Header returns headers, such as one with a token. It is called before each request.
	Header func(context.Context) (http.Header, error)
	// Save takes the cursor each time it has moved. Its error ends Run.
	Save func(context.Context, int64) error
	// OnReset takes a reset. Its error ends Run, and without OnReset the reset itself does.
	OnReset func(context.Context, *Reset) error
	// OnError takes why a request failed. The request is repeated unless an error is returned, which ends Run. Without
	// OnError, failures are logged as warnings.
	OnError func(context.Context, error) error
	// Client sends the requests. It must not have a Timeout, which would end streams. Without it, a client like
	// http.DefaultClient does.
	Client *http.Client
	// Patience is the time for a stream's first frame, 5 s if 0. Then no stream gets through, and polls take over.
	Patience time.Duration
	// Silence is the time without a byte after which a stream counts as lost, 15 s if 0. The service sends one every 4 s.
	Silence time.Duration
	// LongestWait is the most time between two attempts, 30 s if 0.
	LongestWait time.Duration

	retry       time.Duration // the server's wish
	line, frame bool          // what the stream at hand has brought
}

const (
	shortestPolling = 5 * time.Second
	longestPolling  = 5 * time.Minute
	longestPoll     = 20 * time.Second
)

// errCaller wraps what the caller's functions return: it ends Run and is not repeated like a failed request.
type errCaller struct{ error }

func (e errCaller) Unwrap() error { return e.error }

// Run calls handle with each event, one at a time, until the context ends or a function of the caller's fails, and
// returns that error. The cursor has not passed an event that was not handled.
func (s *Subscription) Run(ctx context.Context, handle func(context.Context, Event) error) error {
	s.Patience, s.Silence = orElse(s.Patience, 5*time.Second), orElse(s.Silence, 15*time.Second)
	s.LongestWait, s.retry = orElse(s.LongestWait, 30*time.Second), time.Second
	take := func(e Event) error {
		if e.ID <= s.Cursor {
			return nil
		}
		if s.Format == "" {
			// A poll tells the whole object in any case, and handle shall not notice which way an event came.
			e = Event{ID: e.ID, Type: e.Type, Payload: e.Payload}
		}
		if err := handle(ctx, e); err != nil {
			return errCaller{err}
		}
		return s.move(ctx, e.ID)
	}
	var (
		failures    int
		polling     bool
		streamAgain time.Time
		pollingTime = shortestPolling
	)
	for {
		s.line, s.frame = false, false
		var err error
		if polling {
			err = s.poll(ctx, time.Until(streamAgain), take)
		} else {
			err = s.stream(ctx, take)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var caller errCaller
		if errors.As(err, &caller) {
			return caller.error
		}
		if err == nil && polling {
			failures, polling = 0, time.Now().Before(streamAgain)
			continue
		}
		if err != nil {
			if err := s.failed(ctx, err); err != nil {
				return err
			}
		}
		switch {
		case s.frame:
			failures, pollingTime = 0, shortestPolling
		case !polling && !s.line:
			polling, streamAgain = true, time.Now().Add(pollingTime)
			pollingTime = min(pollingTime*2, longestPolling)
		default:
			polling = false
		}
		wait := min(s.retry<<min(failures, 16), s.LongestWait)
		failures++
		wait = wait/2 + rand.N(wait/2+1)
		var status *StatusError
		if errors.As(err, &status) {
			wait = max(wait, status.RetryAfter)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// Position returns the newest position, without moving the cursor. An application that fetches state asks for the
// position first and for its state second: what the state does not hold yet comes as events after that position.
func (s *Subscription) Position(ctx context.Context) (int64, error) {
	now := *s
	now.Patience, now.Silence = orElse(s.Patience, 5*time.Second), orElse(s.Silence, 15*time.Second)
	page, err := now.page(ctx, FromNow, 0)
	if err != nil {
		return 0, err
	}
	return page.Cursor, nil
}

func (s *Subscription) failed(ctx context.Context, err error) error {
	if s.OnError != nil {
		return s.OnError(ctx, err)
	}
	slog.WarnContext(ctx, "events: a request failed and is repeated", "error", err)
	return nil
}

func (s *Subscription) move(ctx context.Context, cursor int64) error {
	if cursor == s.Cursor {
		return nil
	}
	s.Cursor = cursor
	if s.Save == nil {
		return nil
	}
	if err := s.Save(ctx, cursor); err != nil {
		return errCaller{err}
	}
	return nil
}

// pass moves the cursor past positions that have no event for this consumer.
func (s *Subscription) pass(ctx context.Context, cursor int64) error {
	return s.move(ctx, max(cursor, s.Cursor))
}

func (s *Subscription) reset(ctx context.Context, r *Reset) error {
	if s.OnReset == nil {
		return errCaller{r}
	}
	if err := s.OnReset(ctx, r); err != nil {
		return errCaller{err}
	}
	return s.move(ctx, r.Cursor)
}

func orElse(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
