//go:build unix

package blackbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// TestSwitching has clients change at random between all ways to read, with one cursor, while writers race,
// roll back and keep transactions open. Each sees every committed event of its consumer once and in order.
func TestSwitching(t *testing.T) {
	t.Parallel()
	const writers, transactions, readers = 10, 150, 4
	dsn := pgtest.New(t)
	streamer := start(t, "stream", "DATABASE_URL="+dsn)
	poller := start(t, "poll", "DATABASE_URL="+dsn)
	lambda := startLambda(t, dsn, gatewaytest.Config{Freeze: true})
	ways := []way{
		{"SSE", func(r *switching) error { return r.stream(streamer.addr) }},
		{"poll of stream", func(r *switching) error { return r.poll(streamer.url("")) }},
		{"poll", func(r *switching) error { return r.poll(poller.url("")) }},
		{"Lambda", func(r *switching) error { return r.poll(lambda.URL()) }},
	}

	var reading, writing sync.WaitGroup
	for n := range readers {
		r := &switching{consumer: consumerName(n % 2), used: map[string]int{}}
		reading.Go(func() {
			if err := r.run(ways); err != nil {
				t.Errorf("reader %d: %v", n, err)
			}
		})
		t.Cleanup(func() {
			if want := connect(t, dsn).ids(t, r.consumer); !slices.Equal(r.seen, want) {
				t.Errorf("reader %d: want the %d events of %s once and in order, got %d: %s", n, len(want), r.consumer, len(r.seen), difference(want, r.seen))
			}
			t.Logf("reader %d: %d events, read by %v", n, len(r.seen), r.used)
		})
	}
	for range writers {
		writing.Go(func() {
			if err := write(dsn, transactions); err != nil {
				t.Errorf("writer: %v", err)
			}
		})
	}
	writing.Wait()
	db := connect(t, dsn)
	for n := range 2 {
		db.insert(t, consumerName(n), "last", `{}`)
	}
	reading.Wait()
}

func consumerName(n int) string { return fmt.Sprint("consumer-", n) }

// write runs transactions of one to four events for random consumers. A quarter is rolled back, some only
// to a savepoint, and every tenth stays open for a while with its ids drawn.
func write(dsn string, transactions int) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	const insert = `insert into events (type, timestamp, subscriber, payload) values ('insert', now(), $1, '{"n": 1}')`
	for range transactions {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		for range 1 + rand.N(4) {
			if _, err := tx.Exec(ctx, insert, consumerName(rand.N(3))); err != nil {
				return err
			}
			if rand.N(8) == 0 {
				_, err := tx.Exec(ctx, `savepoint s; insert into events (type, timestamp, subscriber, payload)
					values ('insert', now(), 'consumer-0', '"never"'); rollback to s`)
				if err != nil {
					return err
				}
			}
		}
		pause := rand.Float64() / 200
		if rand.N(10) == 0 {
			pause *= 20
		}
		if _, err := tx.Exec(ctx, "select pg_sleep($1)", pause); err != nil {
			return err
		}
		if rand.N(4) == 0 {
			err = tx.Rollback(ctx)
		} else {
			err = tx.Commit(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type way struct {
	name string
	read func(*switching) error
}

// switching is a reader whose only memory is a cursor.
type switching struct {
	consumer string
	cursor   int64
	seen     []int64
	used     map[string]int
	done     bool // the last event has been seen
}

func (r *switching) run(ways []way) error {
	for !r.done {
		w := ways[rand.N(len(ways))]
		if err := w.read(r); err != nil {
			return fmt.Errorf("%s after %d: %w", w.name, r.cursor, err)
		}
		r.used[w.name]++
	}
	return nil
}

func (r *switching) see(id int64, eventType string) {
	r.seen = append(r.seen, id)
	r.cursor = id
	r.done = r.done || eventType == "last"
}

// stream reads some events from a session, and leaves it in the middle.
func (r *switching) stream(addr string) error {
	s, err := open(addr, r.consumer, r.cursor)
	if err != nil {
		return err
	}
	defer s.close()
	for n := 1 + rand.N(40); n > 0 && !r.done; n-- {
		f, err := s.nextEvent()
		if err != nil {
			return err
		}
		if f.event == "reset" {
			return fmt.Errorf("want an event, got a reset: %s", f.data)
		}
		r.see(f.id, f.event)
	}
	return nil
}

func (r *switching) poll(base string) error {
	url := fmt.Sprintf("%s/events/poll?after=%d&limit=%d&wait=%d", base, r.cursor, 1+rand.N(30), rand.N(3))
	a, err := try(http.MethodGet, url, r.consumer)
	if err != nil {
		return err
	}
	b, err := a.tryBatch()
	if err != nil {
		return err
	}
	for _, e := range b.Events {
		r.see(e.ID, e.Type)
	}
	if b.Cursor < r.cursor {
		return fmt.Errorf("want the cursor at %d or beyond, got %d", r.cursor, b.Cursor)
	}
	r.cursor = b.Cursor
	return nil
}

// difference tells where what a reader has seen first departs from what it should have.
func difference(want, got []int64) string {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			return fmt.Sprintf("event %d is %d, want %d", i, got[i], want[i])
		}
	}
	if len(want) == len(got) {
		return "none"
	}
	return fmt.Sprintf("the first %d are right", min(len(want), len(got)))
}

// untilEnd reads a stream to its end and returns the ids of its events.
func (s *stream) untilEnd() (ids []int64, err error) {
	for {
		f, err := s.nextEvent()
		if errors.Is(err, io.EOF) {
			return ids, nil
		}
		if err != nil {
			return ids, err
		}
		ids = append(ids, f.id)
	}
}
