package sse

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"

	"github.com/event-piper/event-piper/core/problem"
)

func TestWhatAccepts(t *testing.T) {
	for _, c := range []struct {
		accept []string
		want   bool
	}{
		{nil, false},
		{[]string{"*/*"}, false},
		{[]string{"text/*"}, false},
		{[]string{"text/event-stream"}, true},
		{[]string{"Text/Event-Stream; charset=utf-8"}, true},
		{[]string{"application/json, text/event-stream;q=0.5"}, true},
		{[]string{"application/json", "text/event-stream"}, true},
		{[]string{"text/event-stream;q=0"}, false},
		{[]string{"text/event-stream;q=0.000, */*"}, false},
		{[]string{"text/event-stream;q=much"}, false},
		{[]string{"text/event-streams"}, false},
		{[]string{";;, text/event-stream"}, true},
	} {
		r := &http.Request{Header: http.Header{"Accept": c.accept}}
		if got := acceptsStreams(r); got != c.want {
			t.Errorf("%q accepts a stream: %t, want %t", c.accept, got, c.want)
		}
	}
}

var (
	turnedAway      = regexp.MustCompile(`^id: (\d+)\nevent: heartbeat\ndata: thump\nretry: (\d+)\n\n$`)
	turnedAwayBlind = regexp.MustCompile(`^()event: heartbeat\ndata: thump\nretry: (\d+)\n\n$`)
)

// wantTurnedAway checks an answer that a browser comes back from.
func wantTurnedAway(t *testing.T, resp *http.Response, form *regexp.Regexp, cursor string) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	m := form.FindStringSubmatch(string(body))
	if resp.StatusCode != 200 || err != nil || m == nil {
		t.Fatalf("got %d %q (%v), want 200 and a retry", resp.StatusCode, body, err)
	}
	if m[1] != cursor {
		t.Errorf("got %q, want the cursor %s", body, cursor)
	}
	if ms, _ := strconv.Atoi(m[2]); ms < 2000 || ms >= 5000 {
		t.Errorf("told to come back after %s ms, want two to five times a second", m[2])
	}
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestAnEventSourceIsToldWhenToComeBack(t *testing.T) {
	const accept = "Accept: text/event-stream"
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w, func(c *setup) { c.limits.Sessions, c.limits.SessionsPerConsumer = 2, 1 })
		s.store.Insert("toto", "insert", `1`)
		eventually(t, "the hub to be at 1", func() bool { return s.hub.Status().Position == 1 })
		refused := func(status int64, cursor, consumer string, options ...string) {
			t.Helper()
			resp, cancel := s.get(t, http.MethodGet, consumer, append(options, accept)...)
			defer cancel()
			wantTurnedAway(t, resp, turnedAway, cursor)
			if got := await(t, s.requests, "the access line"); got.status != status {
				t.Errorf("the access line has the status %d, want %d", got.status, status)
			}
		}
		toto := s.open(t, "toto", accept)
		refused(429, "1", "toto")
		refused(429, "7", "toto", "Last-Event-ID: 7")
		titi := s.open(t, "titi", accept)
		refused(503, "3", "tata", "?after=3")

		ctx, cancelDrain := context.WithCancel(t.Context())
		cancelDrain()
		go s.Drain(ctx)
		for _, c := range []*client{toto, titi} {
			c.next(t)
			c.wantEnd(t)
			await(t, s.requests, "the access line")
		}
		refused(503, "1", "toto")
		if n := s.Stats().Draining.Load(); n != 1 {
			t.Errorf("%d requests are counted as refused while draining, want 1", n)
		}
	})
}

func TestWhatWaitingDoesNotChangeStaysAProblem(t *testing.T) {
	s := newService(t, ways[0])
	for option, status := range map[string]int{"?aftr=5": 400, "Last-Event-ID: x": 400} {
		resp, cancel := s.get(t, http.MethodGet, "toto", option, "Accept: text/event-stream")
		_ = resp.Body.Close()
		cancel()
		if resp.StatusCode != status || resp.Header.Get("Content-Type") != problem.ContentType {
			t.Errorf("%s: got %d %s, want the problem %d", option, resp.StatusCode, resp.Header.Get("Content-Type"), status)
		}
	}
	resp, cancel := s.get(t, http.MethodGet, "", "Accept: text/event-stream")
	defer cancel()
	wantProblem(t, resp, 401, "who is asking is not known")
}

// What stands in front of the streams may refuse for now, too, when nobody knows a position or who is asking.
func TestARefusalInFrontIsToldInTheSameWay(t *testing.T) {
	s := newService(t, ways[0])
	for _, status := range []int{429, 503, 403} {
		h := s.Handler(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { problem.RetryLater(status, "not now").Write(w) })
		})
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/events?aftr=5", nil)
		r.Header.Set("Accept", "text/event-stream")
		h.ServeHTTP(w, r)
		if status == 403 {
			if w.Code != 403 {
				t.Errorf("403 became %d", w.Code)
			}
			continue
		}
		wantTurnedAway(t, w.Result(), turnedAwayBlind, "")
	}
}
