//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// offer is a steady rate of events, as a number of writers insert it: each transaction is one statement of
// Batch rows.
type offer struct {
	Rate     float64 // events per second
	For      time.Duration
	Batch    int
	Writers  int
	Consumer func(n int) string
}

// offered is how an offer went.
type offered struct {
	events int
	// late is how long after its time the last insert ended: a writer that cannot keep up grows late.
	late    time.Duration
	inserts histogram
	last    time.Time // when the last insert ended
}

// put makes the n-th batch of an offer happen.
type put func(ctx context.Context, n int) error

// write inserts what is offered. A payload carries the time before its insert.
func write(ctx context.Context, dsn string, o offer) (*offered, error) {
	return o.pace(ctx, func(ctx context.Context) (put, func(), error) {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return nil, nil, err
		}
		insert := func(ctx context.Context, n int) error { return insert(ctx, conn, o, n) }
		return insert, func() { _ = conn.Close(context.WithoutCancel(ctx)) }, nil
	})
}

// pace lets writers, each with a connection of its own, put batch after batch, each when it is due.
func (o offer) pace(ctx context.Context, connect func(context.Context) (put, func(), error)) (*offered, error) {
	batches := int(o.Rate * o.For.Seconds() / float64(o.Batch))
	interval := time.Duration(float64(o.Batch) / o.Rate * float64(time.Second))
	var (
		result offered
		mu     sync.Mutex // guards result
		next   atomic.Int64
		ready  sync.WaitGroup
		start  time.Time
		begin  = make(chan struct{}) // closed when start is set
	)
	ready.Add(o.Writers)
	group, ctx := errgroup.WithContext(ctx)
	for range o.Writers {
		group.Go(func() error {
			put, disconnect, err := connect(ctx)
			ready.Done()
			if err != nil {
				return fmt.Errorf("writer: %w", err)
			}
			defer disconnect()
			<-begin
			var mine offered
			for {
				n := int(next.Add(1)) - 1
				if n >= batches {
					break
				}
				if err := sleep(ctx, time.Until(start.Add(time.Duration(n)*interval))); err != nil {
					return err
				}
				before := time.Now()
				if err := put(ctx, n); err != nil {
					return fmt.Errorf("writer: %w", err)
				}
				mine.last = time.Now()
				mine.inserts.add(int64(mine.last.Sub(before)))
			}
			mu.Lock()
			defer mu.Unlock()
			result.merge(&mine)
			return nil
		})
	}
	ready.Wait()
	start = time.Now()
	close(begin)
	err := group.Wait()
	result.events = batches * o.Batch
	result.late = result.last.Sub(start.Add(time.Duration(batches-1) * interval))
	return &result, err
}

func (o *offered) merge(other *offered) {
	for i, n := range other.inserts {
		o.inserts[i] += n
	}
	if other.last.After(o.last) {
		o.last = other.last
	}
}

func insert(ctx context.Context, conn *pgx.Conn, o offer, n int) error {
	body := payload()
	if o.Batch == 1 {
		_, err := conn.Exec(ctx,
			"insert into events (type, timestamp, subscriber, payload) values ('insert', now(), $1::text, $2::json)",
			o.Consumer(n), body)
		return err
	}
	consumers := make([]string, o.Batch)
	for i := range consumers {
		consumers[i] = o.Consumer(n*o.Batch + i)
	}
	_, err := conn.Exec(ctx,
		"insert into events (type, timestamp, subscriber, payload) select 'insert', now(), s, $2::json from unnest($1::text[]) s",
		consumers, body)
	return err
}

// payload is a JSON object of 200 bytes that says when it was made.
func payload() string {
	head := fmt.Sprintf(`%s%d,"p":"`, stamp, time.Now().UnixNano())
	return head + strings.Repeat("x", 200-len(head)-2) + `"}`
}
