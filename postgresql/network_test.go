package postgresql_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// network is what lies between a service and its database: a proxy that can lose what passes, and pauses after each 64 KB
// that come from the database.
type network struct {
	dsn string // that leads through it

	mu   sync.Mutex
	lost bool
	made chan struct{} // gets one for each connection, while there is room
}

func newNetwork(t *testing.T, dsn string, pause time.Duration) *network {
	t.Helper()
	n := &network{made: make(chan struct{}, 1000)}
	n.dsn = between(t, dsn, func(client, server net.Conn) {
		select {
		case n.made <- struct{}{}:
		default:
		}
		var both sync.WaitGroup
		both.Go(func() { n.pass(server, client, 0) })
		both.Go(func() { n.pass(client, server, pause) })
		both.Wait()
	})
	return n
}

// between returns a DSN whose connections are led to the database by handle, which returns when they are closed.
func between(t *testing.T, dsn string, handle func(client, server net.Conn)) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	database := u.Host
	u.Host = listener.Addr().String()
	var mu sync.Mutex
	var open []net.Conn // guarded by mu
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", database)
			if err != nil {
				_ = client.Close()
				continue
			}
			mu.Lock()
			open = append(open, client, server)
			mu.Unlock()
			running.Go(func() { handle(client, server) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return u.String()
}

// pass copies until the end. A connection over which something was lost stays silent for ever.
func (n *network) pass(to, from net.Conn, pause time.Duration) {
	defer func() { _ = to.Close() }()
	buf := make([]byte, 64<<10)
	dead := false
	for {
		k, err := from.Read(buf)
		if err != nil {
			return
		}
		n.mu.Lock()
		dead = dead || n.lost
		n.mu.Unlock()
		if dead {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if _, err := to.Write(buf[:k]); err != nil {
			return
		}
		time.Sleep(pause) // a slow line is what this is about
	}
}

func (n *network) lose(lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = lost
}

// runHub runs a hub over a store until the test ends.
func runHub(t *testing.T, store core.Store) *core.Hub {
	t.Helper()
	hub := core.NewHub(store, core.Limits{Sessions: 100, SessionsPerConsumer: 100, Pagers: 2, TailBytes: 1 << 20}, slog.New(slog.DiscardHandler))
	failed := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { failed <- hub.Run(t.Context()) })
	t.Cleanup(running.Wait)
	select {
	case <-hub.Started():
	case err := <-failed:
		t.Fatal(err)
	}
	return hub
}

// A network that loses all, between a service that listens and its database. What was sent into it never gets an answer.
func TestABlackHoleIsNoticedAndItsEndToo(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	n := newNetwork(t, dsn, 0)
	exec(t, conn, insert) // which is history for the hub
	hub := runHub(t, open(t, n.dsn))
	if _, err := hub.Poll(t.Context(), core.Poll{Consumer: "toto", Limit: 1}); err != nil {
		t.Fatal(err)
	}
	woken := make(chan struct{}, 1)
	session, err := hub.Open("toto", core.FromNow, nil, func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for len(n.made) > 0 {
		<-n.made
	}

	n.lose(true)
	start := time.Now()
	patient, leave := context.WithTimeout(t.Context(), 9*time.Second)
	defer leave()
	_, err = hub.Poll(patient, core.Poll{Consumer: "toto", Limit: 1})
	t.Logf("a poll that does not wait: %v after %v", err, time.Since(start))
	if !errors.Is(err, core.ErrUnavailable) {
		t.Errorf("a poll without a database ended with %v, want %v", err, core.ErrUnavailable)
	}
	// The connection is given up for a new one, which gets no answer. While that is waited for, there is another, and another.
	for i := range 4 {
		select {
		case <-n.made:
			t.Logf("connection %d after %v", i+1, time.Since(start))
		case <-time.After(15*time.Second - time.Since(start)):
			t.Fatalf("%d new connections in 15 s, want 4", i)
		}
	}
	if reason := hub.Down(); reason == "" {
		t.Error("healthy while the database is out of reach")
	}
	exec(t, conn, insert)
	n.lose(false)
	start = time.Now()
	for {
		events, err := session.Take(nil, 10, 1<<20)
		if err != nil {
			t.Logf("taking: %v", err)
		}
		if len(events) > 0 {
			break
		}
		select {
		case <-woken:
		case <-time.After(10 * time.Second):
			t.Fatal("no event within 10 s of the end of the fault")
		}
	}
	t.Logf("delivered %v after the end", time.Since(start))
	if _, err := hub.Poll(t.Context(), core.Poll{Consumer: "toto", Limit: 1}); err != nil {
		t.Errorf("a poll afterwards: %v", err)
	}
}

// A payload may take long to come, as long as it comes.
func TestALongTransferIsNotGivenUp(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	exec(t, connect(t, dsn), "insert into events (type, subscriber, payload) select 'insert', 'toto', json_build_object('x', string_agg(md5(n::text), '')) from generate_series(1, 70000) n")
	n := newNetwork(t, dsn, 350*time.Millisecond)
	store := open(t, n.dsn)
	start := time.Now()
	pages, err := store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}, core.Mark{})
	if err != nil {
		t.Fatalf("after %v: %v", time.Since(start), err)
	}
	if len(pages[0].Events) != 1 || len(pages[0].Events[0].Payload) < 2<<20 {
		t.Errorf("%d events, want one of two megabytes", len(pages[0].Events))
	}
	t.Logf("took %v", time.Since(start))
}

// A function has no other connection that would notice.
func TestAFunctionAnswersInABlackHole(t *testing.T) {
	t.Parallel()
	for name, interval := range map[string]bool{"by listening": false, "by an interval": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, pgtest.New(t), 0)
			poller := direct(t, n.dsn, interval)
			poll := core.Poll{Consumer: "toto", Limit: 1}
			if _, err := poller.Poll(t.Context(), poll); err != nil {
				t.Fatal(err)
			}
			n.lose(true)
			for range 2 { // with a connection and without
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				start := time.Now()
				if _, err := poller.Poll(ctx, poll); !errors.Is(err, core.ErrUnavailable) || time.Since(start) > 20*time.Second {
					t.Errorf("%v after %v, want %v long before the request must end", err, time.Since(start), core.ErrUnavailable)
				}
			}
			n.lose(false)
			if _, err := poller.Poll(t.Context(), poll); err != nil {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}
