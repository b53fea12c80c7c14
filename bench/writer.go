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
	Bytes    int // of a payload; 200 unless given
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

// write inserts what is offered. A payload carries the time before its insert.
func write(ctx context.Context, dsn string, o offer) (*offered, error) {
	batches := int(o.Rate * o.For.Seconds() / float64(o.Batch))
	interval := time.Duration(float64(o.Batch) / o.Rate * float64(time.Second))
	if o.Bytes == 0 {
		o.Bytes = 200
	}
	var (
		result offered
		mu     sync.Mutex // guards result
		next   atomic.Int64
		ready  sync.WaitGroup
	)
	var start time.Time
	begin := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	ready.Add(o.Writers)
	for range o.Writers {
		group.Go(func() error {
			conn, err := pgx.Connect(ctx, dsn)
			ready.Done()
			if err != nil {
				return fmt.Errorf("writer: %w", err)
			}
			defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
			<-begin
			var inserts histogram
			var last time.Time
			for {
				n := int(next.Add(1)) - 1
				if n >= batches {
					break
				}
				if err := sleep(ctx, time.Until(start.Add(time.Duration(n)*interval))); err != nil {
					return err
				}
				before := time.Now()
				if err := insert(ctx, conn, o, n); err != nil {
					return fmt.Errorf("insert: %w", err)
				}
				last = time.Now()
				inserts.add(int64(last.Sub(before)))
			}
			mu.Lock()
			defer mu.Unlock()
			for i, n := range inserts {
				result.inserts[i] += n
			}
			if last.After(result.last) {
				result.last = last
			}
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

func insert(ctx context.Context, conn *pgx.Conn, o offer, n int) error {
	body := payload(o.Bytes)
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

// payload is a JSON object of so many bytes that says when it was made.
func payload(bytes int) string {
	head := fmt.Sprintf(`%s%d,"p":"`, stamp, time.Now().UnixNano())
	return head + strings.Repeat("x", max(bytes-len(head)-2, 0)) + `"}`
}
