package postgresql_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// flooded returns a DSN whose connections get no answer any more once they listen, but notifications without end: as
// PostgreSQL does while somebody sends them faster than they are handed out.
func flooded(t *testing.T, dsn string) string {
	t.Helper()
	// PostgreSQL's manual, "Message Formats": NotificationResponse, with a process id, a channel and a payload.
	rings := bytes.Repeat([]byte("A\x00\x00\x00\x14\x00\x00\x00\x01new_events\x00\x00"), 100)
	return between(t, dsn, func(client, server net.Conn) {
		var both sync.WaitGroup
		both.Go(func() {
			defer func() { _ = server.Close() }()
			_, _ = io.Copy(server, client) // until it is closed
		})
		both.Go(func() {
			defer func() { _ = client.Close() }()
			buf := make([]byte, 64<<10)
			for {
				n, err := server.Read(buf)
				if err != nil {
					return
				}
				if _, err := client.Write(buf[:n]); err != nil {
					return
				}
				if bytes.Contains(buf[:n], []byte("C\x00\x00\x00\x0bLISTEN\x00")) {
					break
				}
			}
			for {
				if _, err := client.Write(rings); err != nil {
					return
				}
			}
		})
		both.Wait()
	})
}

// Any role can send notifications without end, and who listens gets no answer from PostgreSQL meanwhile.
func TestEventsAreDeliveredInAFloodOfNotifications(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	hub := runHub(t, open(t, flooded(t, dsn)))
	exec(t, connect(t, dsn), insert)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	batch, err := hub.Poll(ctx, core.Poll{Consumer: "toto", Limit: 1, Wait: 20 * time.Second})
	if err != nil || len(batch.Events) != 1 {
		t.Errorf("got %d events (%v), want 1", len(batch.Events), err)
	}
}

func TestExamineFindsAFloodOfNotifications(t *testing.T) {
	t.Parallel()
	if got := problems(t, flooded(t, pgtest.New(t))); !strings.Contains(got, "notifications come without end") {
		t.Errorf("found %q", got)
	}
}

// A function gives up one poll, and does without notifications in the next.
func TestAFunctionWaitsInAFloodOfNotifications(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	poller := direct(t, flooded(t, dsn), false)
	poll := core.Poll{Consumer: "toto", Limit: 1, Wait: 20 * time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if b, err := poller.Poll(ctx, poll); err == nil {
		t.Errorf("a poll that is flooded got %+v, want an error", b)
	}
	exec(t, connect(t, dsn), insert)
	b, err := poller.Poll(ctx, poll)
	if err != nil || len(b.Events) != 1 {
		t.Errorf("the next got %d events (%v), want 1", len(b.Events), err)
	}
}
