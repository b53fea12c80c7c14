package sse

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
)

func TestAClientThatLeavesIsNoticedWithoutAWrite(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		for range 10 {
			s.open(t, "toto").leave()
		}
		eventually(t, "all sessions to end", func() bool { return s.hub.Sessions() == 0 })
	})
}

func TestAStreamEndsWhenItsTokenExpires(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		const life = 400 * time.Millisecond
		s := newService(t, w, func(c *setup) { c.expires = func() time.Time { return time.Now().Add(life) } })
		start := time.Now()
		c := s.open(t, "toto")
		c.wantEnd(t)
		if lived := time.Since(start); lived < life {
			t.Errorf("it ended after %v, want not before %v", lived, life)
		}
		expired := newService(t, w, func(c *setup) { c.expires = func() time.Time { return time.Unix(1, 0) } })
		expired.store.Insert("toto", "insert", `1`)
		expired.open(t, "toto", "?after=0").wantEnd(t)
	})
}

func TestDrainTellsEachClientWhenToComeBackAndEnds(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		var clients []*client
		for i := range 20 {
			clients = append(clients, s.open(t, fmt.Sprint("toto", i%3)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		drained := make(chan struct{})
		go func() { defer close(drained); s.Drain(ctx) }()
		seen := map[int]bool{}
		for _, c := range clients {
			_, ms := heartbeatOf(t, c.next(t))
			if ms < 500 || ms >= 1500 {
				t.Errorf("told to come back after %d ms, want from 500 to 1500", ms)
			}
			seen[ms] = true
			c.wantEnd(t)
		}
		if len(seen) < 2 {
			t.Errorf("all were told the same: %v", seen)
		}
		await(t, drained, "Drain to return")
		resp, cancelGet := s.get(t, http.MethodGet, "toto")
		defer cancelGet()
		wantProblem(t, resp, 503, "the service is shutting down")
		s.Drain(ctx) // again
	})
}

func TestDrainOfNoStreamsReturns(t *testing.T) {
	s := newService(t, ways[0])
	s.Drain(t.Context())
}

func TestCloseEndsAllStreamsAtOnce(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		var clients []*client
		for range 20 {
			clients = append(clients, s.open(t, "toto"))
		}
		s.Close()
		for _, c := range clients {
			c.wantEnd(t)
		}
		eventually(t, "all sessions to end", func() bool { return s.hub.Sessions() == 0 })
		resp, cancel := s.get(t, http.MethodGet, "toto")
		defer cancel()
		wantProblem(t, resp, 503, "the service is shutting down")
		s.Drain(t.Context())
		s.Close() // again
	})
}

func TestAStalledClientIsEndedAndDoesNotSlowOthers(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w, func(c *setup) { c.WriteTimeout = 2 * time.Second })
		resp, cancel := s.get(t, http.MethodGet, "toto") // and never read
		defer cancel()
		defer func() { _ = resp.Body.Close() }()
		reader := s.open(t, "toto")
		payload := `"` + strings.Repeat("x", 256<<10) + `"`
		id := int64(0)
		for s.Stats().Stalled.Load() == 0 {
			if id++; id > 10_000 {
				t.Fatalf("no client stalled in %d events of %d bytes", id, len(payload))
			}
			s.store.Insert("toto", "insert", payload)
			reader.want(t, frame(id, "insert", payload))
			s.store.Delete("toto", id-1)
		}
		eventually(t, "the stalled session to end", func() bool { return s.hub.Sessions() == 1 })
		if n := s.Stats().Stalled.Load(); n != 1 {
			t.Errorf("%d clients are counted as stalled, want 1", n)
		}
		if tail := s.hub.Stats().TailBytes; tail > 2<<20 {
			t.Errorf("%d bytes of events are kept in memory, want no more than the limit", tail)
		}
	})
}

func TestAStalledClientKeepsNoHistory(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		s.http.Client().Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
		const events, size = 4000, 4 << 10
		payload := `"` + strings.Repeat("x", size) + `"`
		tx := s.store.Begin()
		for range events {
			tx.Insert("toto", "insert", payload)
		}
		tx.Commit()
		eventually(t, "the hub to have read all", func() bool { return s.hub.Status().Position == events })
		resp, cancel := s.get(t, http.MethodGet, "toto", "?after=0") // and never read
		defer cancel()
		defer func() { _ = resp.Body.Close() }()
		// A page has come, and was not taken in whole: a session settles when it is dropped.
		eventually(t, "the history to be dropped", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			for st := range s.streams {
				return s.Stats().Bytes.Load() > size && st.session.Settled()
			}
			return false
		})
		if n := s.Stats().Bytes.Load(); n >= events*size {
			t.Errorf("%d bytes were written to a client that reads nothing", n)
		}
	})
}

func TestAStreamThatIsEndedSaysGoodbye(t *testing.T) {
	inEveryWay(t, func(t *testing.T, w way) {
		s := newService(t, w)
		ended, other := s.open(t, "toto"), s.open(t, "titi")
		list, _ := s.hub.List("toto", 10)
		want := core.SSE
		if w.http2 {
			want = core.SSEOverHTTP2
		}
		if len(list) != 1 || list[0].Transport != want {
			t.Fatalf("got %+v, want one session by %v", list, want)
		}
		if !s.hub.End(list[0].ID) {
			t.Fatal("there is no such session")
		}
		cursor, retry := heartbeatOf(t, ended.next(t))
		if cursor != ended.start || retry == 0 {
			t.Errorf("goodbye at %d with retry %d, want %d and one", cursor, retry, ended.start)
		}
		ended.wantEnd(t)
		id := s.store.Insert("titi", "insert", `1`)
		other.want(t, fmt.Sprintf("id: %d\nevent: insert\ndata: 1\n\n", id))
	})
}

// TestAStalledStreamIsEndedAtOnce: its goodbye cannot be written, and nobody waits until it could be.
func TestAStalledStreamIsEndedAtOnce(t *testing.T) {
	s := newService(t, ways[0])
	resp, cancel := s.get(t, http.MethodGet, "toto") // nobody reads
	defer cancel()
	defer func() { _ = resp.Body.Close() }()
	payload := `"` + strings.Repeat("x", 1<<20) + `"`
	for range 20 {
		s.store.Insert("toto", "insert", payload)
	}
	stalled := func() (stalled bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for st := range s.streams {
			stalled = st.stalled.Load() != 0
		}
		return stalled
	}
	eventually(t, "the client to stall", stalled)
	if n := s.hub.EndAll("toto"); n != 1 {
		t.Fatalf("%d sessions were ended, want 1", n)
	}
	eventually(t, "the session to end", func() bool { return s.hub.Sessions() == 0 })
}
