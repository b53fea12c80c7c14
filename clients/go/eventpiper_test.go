package eventpiper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	heartbeat = "id: 5\nevent: heartbeat\ndata: thump\nretry: 10\n\n"
	reset     = "event: reset\ndata: {\"reason\":\"pruned\",\"oldest\":10,\"newest\":20}\nid: 10\n\n"
)

func frameOf(id int, typ string) string {
	return fmt.Sprintf("id: %d\nevent: %s\ndata: {\"n\":%d}\n\n", id, typ, id)
}

// script answers each request with its next answer, and notes what was asked.
type script struct {
	*httptest.Server
	mu      sync.Mutex
	answers []http.HandlerFunc
	asked   []*http.Request
}

func serve(t *testing.T, answers ...http.HandlerFunc) *script {
	s := &script{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r)
		answer := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		if len(s.answers) > 0 {
			answer, s.answers = s.answers[0], s.answers[1:]
		}
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *script) paths() (paths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.asked {
		paths = append(paths, r.URL.String())
	}
	return paths
}

func reply(status int, mediaType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func stream(body string) http.HandlerFunc { return reply(http.StatusOK, "text/event-stream", body) }

var errEnough = errors.New("enough")

// read runs a subscription until it has so many events.
func read(t *testing.T, count int, s *Subscription) (got []string) {
	t.Helper()
	if s.LongestWait == 0 {
		s.LongestWait = 10 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := s.Run(ctx, func(_ context.Context, e Event) error {
		got = append(got, fmt.Sprint(e.ID, " ", e.Type, " ", string(e.Payload)))
		if len(got) == count {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("got %q and %v, want %d events", got, err, count)
	}
	return got
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGoesOnAfterWhatACutHasLeft(t *testing.T) {
	s := serve(t, stream(heartbeat+frameOf(6, "été")+strings.TrimSuffix(frameOf(7, "error"), "\n")), stream(frameOf(7, "error")))
	got := read(t, 2, &Subscription{URL: s.URL + "/events?types=a", Cursor: FromNow})
	want(t, got, `6 été {"n":6}`, `7 error {"n":7}`)
	want(t, s.paths(), "/events?types=a", "/events?after=6&types=a")
}

func TestAFirstFrameIsACursor(t *testing.T) {
	s := serve(t, stream(heartbeat), stream(frameOf(6, "a")))
	read(t, 1, &Subscription{URL: s.URL + "/events", Cursor: FromNow})
	want(t, s.paths(), "/events", "/events?after=5")
}

func TestPollsWhereNoStreamGetsThrough(t *testing.T) {
	held := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	s := serve(t, held, reply(200, "application/json", `{"events":[{"id":6,"type":"a","payload":12345678901234567890}],"cursor":9}`),
		reply(200, "application/json", `{"events":[{"id":10,"type":"b","payload":null}],"cursor":10}`))
	got := read(t, 2, &Subscription{URL: s.URL + "/events", Cursor: 5, Patience: 50 * time.Millisecond})
	want(t, got, "6 a 12345678901234567890", "10 b null")
	want(t, s.paths(), "/events?after=5", "/events/poll?after=5&wait=5", "/events/poll?after=9&wait=5")
}

func TestTheFormatDecidesWhatAnEventTellsNotTheWayItCame(t *testing.T) {
	const told = `"timestamp":"2026-03-01T12:00:00Z","subscriber":"team-7","amends":2,"traceparent":"00-ab-cd-01"`
	object := func(id int) string { return fmt.Sprintf(`{"id":%d,"type":"price",%s,"payload":{"n":%[1]d}}`, id, told) }
	for _, format := range []string{FormatEvent, ""} {
		first, asked, more := frameOf(6, "price"), "", Event{}
		if format != "" {
			first = "id: 6\nevent: price\ndata: " + object(6) + "\n\n"
			asked = "&format=event"
			more = Event{Timestamp: "2026-03-01T12:00:00Z", Subscriber: "team-7", Amends: 2, Traceparent: "00-ab-cd-01"}
		}
		s := serve(t, stream(first), reply(502, "text/plain", ""), reply(200, "application/json", `{"events":[`+object(7)+`],"cursor":7}`))
		var got []Event
		err := (&Subscription{
			URL: s.URL + "/events", Cursor: 5, Format: format, LongestWait: 10 * time.Millisecond,
		}).Run(t.Context(), func(_ context.Context, e Event) error {
			if got = append(got, e); len(got) == 2 {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
		for i, e := range got {
			wanted := more
			wanted.ID, wanted.Type, wanted.Payload = int64(6+i), "price", fmt.Appendf(nil, `{"n":%d}`, 6+i)
			if !reflect.DeepEqual(e, wanted) {
				t.Errorf("format %q: got %+v, want %+v", format, e, wanted)
			}
		}
		want(t, s.paths(), "/events?after=5"+asked, "/events?after=6"+asked, "/events/poll?after=6&wait=5")
	}
}

func TestABadAnswerIsToldAndRepeated(t *testing.T) {
	s := serve(t, reply(502, "text/event-stream", ""), reply(502, "application/json", "{}"), stream(frameOf(6, "a")))
	var codes []string
	read(t, 1, &Subscription{URL: s.URL + "/events", Cursor: 5, OnError: func(_ context.Context, err error) error {
		var status *StatusError
		if !errors.As(err, &status) {
			t.Errorf("got %v, want a *StatusError", err)
			return nil
		}
		codes = append(codes, fmt.Sprint(status.Code))
		return nil
	}})
	want(t, codes, "502", "502")
	s = serve(t, reply(401, "application/problem+json", "{}"))
	err := (&Subscription{URL: s.URL + "/events", OnError: func(_ context.Context, err error) error { return err }}).Run(t.Context(), nil)
	if status := new(StatusError); !errors.As(err, &status) || status.Code != 401 {
		t.Errorf("got %v, want the error that OnError returned", err)
	}
}

func TestAResetEndsRunUnlessItIsTaken(t *testing.T) {
	s := serve(t, stream(reset))
	err := (&Subscription{URL: s.URL + "/events", Cursor: 2}).Run(t.Context(), nil)
	if r := new(Reset); !errors.As(err, &r) || *r != (Reset{Reason: "pruned", Oldest: 10, Newest: 20, Cursor: 10}) {
		t.Errorf("got %v, want the reset", err)
	}
	s = serve(t, stream(reset+frameOf(11, "a")), reply(403, "text/html", ""),
		reply(410, "application/problem+json", `{"reason":"ahead","oldest":1,"newest":7}`))
	var resets []string
	ctx, cancel := context.WithCancel(t.Context())
	sub := &Subscription{URL: s.URL + "/events", Cursor: 2, LongestWait: time.Millisecond, OnReset: func(_ context.Context, r *Reset) error {
		resets = append(resets, fmt.Sprint(r.Reason, " ", r.Cursor))
		if r.Reason == "ahead" {
			cancel()
		}
		return nil
	}}
	if err := sub.Run(ctx, func(context.Context, Event) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	want(t, resets, "pruned 10", "ahead 7")
}

func TestTheCursorIsSavedAfterTheHandler(t *testing.T) {
	s := serve(t, stream(frameOf(6, "a")+frameOf(7, "a")))
	var saved []string
	sub := &Subscription{URL: s.URL + "/events", Cursor: 5, Save: func(_ context.Context, cursor int64) error {
		saved = append(saved, fmt.Sprint(cursor))
		return nil
	}}
	read(t, 2, sub)
	want(t, saved, "6")
	if sub.Cursor != 6 {
		t.Errorf("the cursor is %d, want 6: event 7 was not handled", sub.Cursor)
	}
}

func TestPositionLeavesTheCursor(t *testing.T) {
	s := serve(t, reply(200, "application/json", `{"events":[],"cursor":41}`))
	sub := &Subscription{URL: s.URL + "/events", Cursor: 5}
	if position, err := sub.Position(t.Context()); position != 41 || err != nil || sub.Cursor != 5 {
		t.Errorf("got %d, %v and the cursor %d, want 41 and 5", position, err, sub.Cursor)
	}
	want(t, s.paths(), "/events/poll?wait=0")
}
