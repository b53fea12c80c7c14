//go:build unix

package blackbox_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// startStreamLambda runs the Lambda of streams behind a REST API until the test ends, and returns its address. What it
// prints is shown if the test fails.
func startStreamLambda(t testing.TB, dsn string, c gatewaytest.Config) (addr string) {
	t.Helper()
	output := newLines()
	c.Bootstrap, c.Output, c.REST = binary(t, "stream-bootstrap"), output, true
	c.Log = slog.New(slog.NewJSONHandler(output, nil))
	c.Env = append(c.Env, "DATABASE_URL="+dsn, "LOG_FORMAT=json")
	front, err := gatewaytest.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		front.Close()
		if t.Failed() {
			t.Logf("the Lambda printed last:\n%s", output.last())
		}
	})
	return strings.TrimPrefix(front.URL(), "http://")
}

// streamConnections counts the connections of the Lambda of streams.
func streamConnections(t testing.TB, db database) int {
	t.Helper()
	return query[int](t, db, `select count(*) from pg_stat_activity
		where application_name like 'event-piper lambda stream%' and datname = current_database()`)
}

// TestStreamOfALambda: the cursor is known by the first frame, an idle stream is one connection, the end comes in time with
// a retry, and afterwards nothing listens.
func TestStreamOfALambda(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	db := connect(t, dsn)
	first := db.insert(t, "toto", "insert", `{"foo": "bar"}`)
	addr := startStreamLambda(t, dsn, gatewaytest.Config{Freeze: true, Env: []string{"STREAM_TIME=12s", "HEARTBEAT_INTERVAL=1s"}})
	s, err := open(addr, "toto", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if f, err := s.nextEvent(); err != nil || f != (frame{first, "insert", `{"foo":"bar"}`}) {
		t.Fatalf("want the event of history, got %+v (%v)", f, err)
	}
	eventually(t, "the stream to be one connection that listens", func() bool { return streamConnections(t, db) == 1 && armed(t, db) == 1 })
	s.want(t, db.insert(t, "toto", "insert", `{}`))
	last := db.insert(t, "others", "insert", `{}`)

	told, cursor := s.tellings, int64(0)
	for {
		f, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || f.event != "heartbeat" {
			t.Fatalf("want heartbeats and the end, got %+v (%v)", f, err)
		}
		cursor = f.id
	}
	if s.tellings != told+1 || s.retry == 0 || cursor != last {
		t.Errorf("want a retry and the cursor %d before the end, got %v and %d", last, s.retry, cursor)
	}
	eventually(t, "nothing to be left", func() bool { return streamConnections(t, db) == 0 && armed(t, db) == 0 })
}

// TestStreamsOfALambdaAreHandedOver has streams that end every second under racing writers: no event is lost or comes twice.
func TestStreamsOfALambdaAreHandedOver(t *testing.T) {
	t.Parallel()
	const sessions, consumers, writers, transactions = 4, 2, 6, 150
	dsn := pgtest.New(t)
	addr := startStreamLambda(t, dsn, gatewaytest.Config{Freeze: true, Env: []string{"STREAM_TIME=1s", "RETRY=20ms"}})
	returns := &moments{}
	c := &crowd{consumers: consumers}
	for i := range sessions {
		m := &member{consumer: consumerName(i % consumers)}
		eventually(t, "a stream that begins within the second", func() (begun bool) {
			var err error
			m.stream, err = open(addr, m.consumer, 0)
			return err == nil
		})
		t.Cleanup(func() { m.stream.close() })
		c.sessions = append(c.sessions, m)
		c.reading.Go(func() { m.err = m.readOn(addr, returns) })
	}
	written := make(chan error, writers)
	for range writers {
		random := rand.New(rand.NewPCG(rand.Uint64(), 0))
		go func() {
			written <- write(dsn, random, []string{consumerName(0), consumerName(1), consumerName(2)}, transactions)
		}()
	}
	for range writers {
		if err := <-written; err != nil {
			t.Errorf("writer: %v", err)
		}
	}
	c.end(t, connect(t, dsn))
	if n := returns.count(); n < sessions {
		t.Errorf("want each stream to have been handed over, got %d returns of %d", n, sessions)
	}
}

// TestStreamOfALambdaRefusals: what waiting does not change is a problem, and what it does a stream that says when to come
// back.
func TestStreamOfALambdaRefusals(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	launch(t, "stream", []string{"migrate"}, "DATABASE_URL="+server.DSN()).exit(t, 0)
	base := "http://" + startStreamLambda(t, server.DSN(), gatewaytest.Config{Freeze: true})
	ask(t, http.MethodGet, base+"/events", "").problem(t, http.StatusUnauthorized)
	ask(t, http.MethodGet, base+"/events?aftr=5", "toto").problem(t, http.StatusBadRequest)
	ask(t, http.MethodGet, base+"/elsewhere", "toto").problem(t, http.StatusNotFound)
	if err := server.Halt(true); err != nil {
		t.Fatal(err)
	}
	ask(t, http.MethodGet, base+"/events", "toto").problem(t, http.StatusServiceUnavailable)
	before := time.Now()
	a := ask(t, http.MethodGet, base+"/events?after=5", "toto", "Accept", "text/event-stream")
	if want := fmt.Sprintf("id: %d\nevent: heartbeat\ndata: thump\nretry: ", 5); a.status != http.StatusOK || !strings.HasPrefix(a.body, want) {
		t.Errorf("without a database: want a heartbeat with the cursor and a retry after %v, got %d %q", time.Since(before), a.status, a.body)
	}
}
