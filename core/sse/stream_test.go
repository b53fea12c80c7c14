package sse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

func frame(id int64, typ, data string) string {
	return fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", id, typ, data)
}

func TestHeadersComeBeforeAnyEvent(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		c := s.open(t, "toto")
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Content-Length": "",
		} {
			if got := c.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if c.Header.Get("X-Request-Id") == "" || c.Header.Get("Date") == "" {
			t.Errorf("headers are %v, want those that every answer has, too", c.Header)
		}
		if want := map[bool]int{false: 1, true: 2}[w.http2]; c.ProtoMajor != want {
			t.Errorf("answered over %s, want HTTP/%d", c.Proto, want)
		}
	})
}

func TestAStreamGoesFromHistoryToLive(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		for i := range 7 {
			s.store.Insert("toto", "insert", fmt.Sprintf(`{"n": %d}`, i+1))
		}
		s.store.Insert("titi", "insert", `{"for": "another"}`)

		fromNow := s.open(t, "toto")
		eventually(t, "the hub to be at 8", func() bool { return s.hub.Status().Position == 8 })
		live := s.open(t, "toto")
		resumed := s.open(t, "toto", "Last-Event-ID: 5")
		resumed.want(t, frame(6, "insert", `{"n":6}`), frame(7, "insert", `{"n":7}`))
		byQuery := s.open(t, "toto", "Last-Event-ID: 6", "?lastEventId=2")
		byQuery.want(t, frame(7, "insert", `{"n":7}`))
		start := s.open(t, "toto", "?after=0")
		for i := range 7 {
			start.want(t, frame(int64(i+1), "insert", fmt.Sprintf(`{"n":%d}`, i+1)))
		}

		s.store.Insert("titi", "insert", `1`)
		s.store.Insert("toto", "update", `{"foo": "bar", "n": 12345678901234567890.10}`)
		s.store.Insert("toto", "delete", `null`)
		for _, c := range []*client{live, resumed, byQuery, start} {
			c.want(t, frame(10, "update", `{"foo":"bar","n":12345678901234567890.10}`), frame(11, "delete", `null`))
		}
		// Whether it was opened before or after the hub had read the first ones, it gets all that follow.
		for got := ""; got != frame(11, "delete", `null`); {
			got = idFirst(fromNow.next(t))
		}
	})
}

// TestNoWakeIsLost commits while the events before are being written: without heartbeats, nothing else
// would bring the last one of a round.
func TestNoWakeIsLost(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		c := s.open(t, "toto")
		for round := range int64(1000) {
			for range 3 {
				s.store.Insert("toto", "insert", `1`)
			}
			c.want(t, frame(3*round+1, "insert", `1`), frame(3*round+2, "insert", `1`), frame(3*round+3, "insert", `1`))
		}
	})
}

func TestALongHistoryArrivesInOrder(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		const n = 5000
		payload := `"` + strings.Repeat("x", 500) + `"`
		tx := s.store.Begin()
		for range n {
			tx.Insert("toto", "insert", payload)
		}
		tx.Commit()
		c := s.open(t, "toto", "Last-Event-ID: 0")
		for id := range int64(n) {
			c.want(t, frame(id+1, "insert", payload))
		}
		s.store.Insert("toto", "live", `1`)
		c.want(t, frame(n+1, "live", `1`))
	})
}

// TestTheIDOfALargeEventComesLast cuts nothing, but looks at what a cut would leave.
func TestTheIDOfALargeEventComesLast(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		c := s.open(t, "toto")
		payload := `"` + strings.Repeat("x", 59_000) + `"`
		s.store.Insert("toto", "insert", payload)
		if got, want := c.next(t), "event: insert\ndata: "+payload+"\nid: 1\n\n"; got != want {
			t.Errorf("got %.40q…, want %.40q…", got, want)
		}
		for range 100 {
			s.store.Insert("toto", "insert", `1`)
		}
		eventually(t, "the hub to be at 101", func() bool { return s.hub.Status().Position == 101 })
		replay := s.open(t, "toto", "?after=1")
		if got, want := replay.next(t), "event: insert\ndata: 1\nid: 2\n\n"; got != want {
			t.Errorf("in a write of many: got %q, want %q", got, want)
		}
	})
}

func TestAResetCarriesTheCursorThatTheStreamGoesOnFrom(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		for range 7 {
			s.store.Insert("toto", "insert", `1`)
		}
		s.store.Delete("toto", 5)
		eventually(t, "the hub to be at 7", func() bool { return s.hub.Status().Position == 7 })
		pruned := s.open(t, "toto", "Last-Event-ID: 3")
		pruned.want(t, "id: 5\nevent: reset\ndata: {\"reason\":\"pruned\",\"oldest\":5,\"newest\":7}\n\n",
			frame(6, "insert", `1`), frame(7, "insert", `1`))
		ahead := s.open(t, "toto", "Last-Event-ID: 100")
		ahead.want(t, "id: 7\nevent: reset\ndata: {\"reason\":\"ahead\",\"oldest\":5,\"newest\":7}\n\n")
		s.store.Insert("toto", "insert", `2`)
		pruned.want(t, frame(8, "insert", `2`))
		ahead.want(t, frame(8, "insert", `2`))
	})
}

func TestOnlyTheTypesThatWereAskedFor(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		some := s.open(t, "toto", "?types=order.paid,order.created&types=a+b")
		all := s.open(t, "toto", "?types=")
		for _, typ := range []string{"order.paid", "x", "order.created", "order", "a b"} {
			s.store.Insert("toto", typ, `1`)
		}
		some.want(t, frame(1, "order.paid", `1`), frame(3, "order.created", `1`), frame(5, "a b", `1`))
		all.want(t, frame(1, "order.paid", `1`), frame(2, "x", `1`), frame(3, "order.created", `1`),
			frame(4, "order", `1`), frame(5, "a b", `1`))
	})
}

func TestEverySessionOfAConsumerGetsEveryEventAndOthersNone(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		var toto []*client
		for range 5 {
			toto = append(toto, s.open(t, "toto"))
		}
		titi := s.open(t, "titi")
		for i := range int64(20) {
			s.store.Insert("toto", "insert", `1`)
			for _, c := range toto {
				c.want(t, frame(i+1, "insert", `1`))
			}
		}
		s.store.Insert("titi", "insert", `2`)
		titi.want(t, frame(21, "insert", `2`))
	})
}

func TestSilenceIsBrokenByHeartbeats(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		// Over HTTP/2 a write deadline must not end a stream on which nothing is being written.
		s := newService(t, w, func(c *setup) { c.Heartbeat, c.WriteTimeout = 300*time.Millisecond, 100*time.Millisecond })
		c := s.open(t, "toto")
		const thump = "id: %d\nevent: heartbeat\ndata: thump\n\n"
		c.want(t, fmt.Sprintf(thump, 0), fmt.Sprintf(thump, 0))
		s.store.Insert("toto", "insert", `1`)
		for got := c.next(t); got != frame(1, "insert", `1`); got = c.next(t) {
			if got != fmt.Sprintf(thump, 0) {
				t.Fatalf("got %q, want a heartbeat or the event", got)
			}
		}
		c.want(t, fmt.Sprintf(thump, 1))
		s.store.Insert("titi", "insert", `1`)
		for got := c.next(t); got != fmt.Sprintf(thump, 2); got = c.next(t) { // past what is for others
			if got != fmt.Sprintf(thump, 1) {
				t.Fatalf("got %q, want a heartbeat", got)
			}
		}
		if n := s.Stats().Heartbeats.Load(); n < 3 {
			t.Errorf("%d heartbeats are counted, want 3 at least", n)
		}
	})
}

func TestWrongRequestsGetAProblem(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		for _, c := range []struct {
			consumer, option string
			status           int
			detail           string
		}{
			{"", "", 401, "who is asking is not known"},
			{"toto", "Last-Event-ID: -1", 400, "Last-Event-ID: a cursor is a non-negative integer"},
			{"toto", "?after=tomorrow", 400, "after: a cursor is a non-negative integer"},
			{"toto", "?types=,", 400, "types: an event type is empty"},
			{"toto", "?aftr=5", 400, `"aftr" is not a parameter of a stream`},
		} {
			var options []string
			if c.option != "" {
				options = append(options, c.option)
			}
			resp, cancel := s.get(t, http.MethodGet, c.consumer, options...)
			wantProblem(t, resp, c.status, c.detail)
			cancel()
		}
		if n := s.Stats().Streams.Load(); n != 0 {
			t.Errorf("%d streams were started, want none", n)
		}
	})
}

// wantProblem checks an answer that is a problem, without anything of a stream.
func wantProblem(t *testing.T, resp *http.Response, status int, detail string) {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	var p struct {
		Title, Detail string
		Status        int
	}
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatalf("read a problem: %v", err)
	}
	if resp.StatusCode != status || p.Status != status || p.Title != http.StatusText(status) || p.Detail != detail {
		t.Errorf("got %d %+v, want %d %q", resp.StatusCode, p, status, detail)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/problem+json", "Cache-Control": "no-store", "X-Accel-Buffering": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	retry, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if later := status == 429 || status == 503; later && (err != nil || retry < 1) {
		t.Errorf("Retry-After is %q, want some seconds", resp.Header.Get("Retry-After"))
	}
}

func TestTooManySessionsAreRefused(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w, func(c *setup) { c.limits.Sessions, c.limits.SessionsPerConsumer = 3, 2 })
		first := s.open(t, "toto")
		s.open(t, "toto")
		resp, cancel := s.get(t, http.MethodGet, "toto")
		defer cancel()
		wantProblem(t, resp, 429, "too many sessions of this consumer")
		s.open(t, "titi")
		resp, cancel = s.get(t, http.MethodGet, "tata")
		defer cancel()
		wantProblem(t, resp, 503, "too many sessions")

		first.leave()
		eventually(t, "the session of a client that left to end", func() bool { return s.hub.Sessions() == 2 })
		s.open(t, "toto")
	})
}

func TestHeadAnswersWithoutASession(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		resp, cancel := s.get(t, http.MethodHead, "toto")
		defer cancel()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatalf("read no body: %v", err)
		}
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/event-stream" {
			t.Errorf("got %d %q, want 200 text/event-stream", resp.StatusCode, got)
		}
		if n := s.Stats().Streams.Load(); n != 0 {
			t.Errorf("%d streams were started, want none", n)
		}
	})
}

func TestTheAccessLineTellsWhatWasDelivered(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		c := s.open(t, "toto")
		s.store.Insert("toto", "insert", `1`)
		want := frame(1, "insert", `1`)
		c.want(t, want)
		s.store.Insert("toto", "insert", `2`)
		c.want(t, frame(2, "insert", `2`))
		c.leave()
		got := await(t, s.requests, "the access line")
		body := 2*len(want) + len("id: 0\nevent: heartbeat\ndata: thump\nretry: 1000\n\n")
		most := body + 2000 // a stream without net/http counts its head, too
		if w.name != "http" {
			most = body
		}
		if got.status != 200 || got.events != 2 || got.bytes < int64(body)-1 || got.bytes > int64(most) {
			t.Errorf("got %+v, want status 200, 2 events, and from %d to %d bytes", got, body-1, most)
		}
	})
}

func TestTheAgeOfLiveEventsIsObserved(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		ages := make(chan time.Duration, 100)
		s := newService(t, w, func(c *setup) { c.observe = func(age time.Duration) { ages <- age } })
		s.store.Insert("toto", "insert", `"old"`)
		eventually(t, "the hub to be at 1", func() bool { return s.hub.Status().Position == 1 })
		c := s.open(t, "toto", "?after=0")
		c.want(t, frame(1, "insert", `"old"`))
		select {
		case age := <-ages:
			t.Fatalf("history was observed to be %v old, want nothing observed", age)
		default:
		}
		s.store.Insert("toto", "insert", `"new"`)
		c.want(t, frame(2, "insert", `"new"`))
		if age := await(t, ages, "the age of a live event"); age < 0 || age > patience {
			t.Errorf("the event is %v old, want about nothing", age)
		}
	})
}

func TestAStreamOutlivesFailuresOfTheStore(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		s.store.Insert("toto", "insert", `1`)
		eventually(t, "the hub to be at 1", func() bool { return s.hub.Status().Position == 1 })
		failed := make(chan struct{}, 1000)
		s.store.SetFaults(coretest.Faults{Fail: func(context.Context, string) error {
			failed <- struct{}{}
			return errors.New("out of order")
		}})
		s.store.Disconnect()
		c := s.open(t, "toto", "?after=0")
		await(t, failed, "a failure")
		s.store.SetFaults(coretest.Faults{})
		s.store.Insert("toto", "insert", `2`)
		c.want(t, frame(1, "insert", `1`), frame(2, "insert", `2`))
	})
}

func TestATimestampBeyondWhatCanBeWrittenIsNoAge(t *testing.T) {
	var ages []time.Duration
	s := &Server{observe: func(age time.Duration) { ages = append(ages, age) }}
	for _, ts := range []time.Time{
		time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Now(),
	} {
		s.delivered(nil, []*core.Event{{ID: 1, Timestamp: ts, Live: true}})
	}
	if len(ages) != 1 || ages[0] > time.Hour {
		t.Errorf("observed %v, want the age of the event of now alone", ages)
	}
}
