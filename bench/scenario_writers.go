//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// variant is a way to write events.
type variant struct {
	name     string
	template string
	follow   bool // with a stream live and following
}

// variants begins with what the others are compared with; the third is the ancestor's.
var variants = []variant{
	{"bare table", "bare", false},
	{"ours without its trigger", "untriggered", false},
	{"row trigger, notifies with the row", "row_trigger", false},
	{"statement trigger, always notifies", "statement_trigger", false},
	{"ours, no stream", ours, false},
	{"ours, a stream following", ours, true},
}

const (
	oneRow = `\set n random(0, 999)
insert into events (type, timestamp, subscriber, payload) values ('insert', now(), 'c' || :n, '{"foo": "bar", "n": 12345}')
`
	hundredRows = `insert into events (type, timestamp, subscriber, payload)
select 'insert', now(), 'c' || n, '{"foo": "bar", "n": 12345}' from generate_series(1, 100) n
`
	copiedRows = 100_000
)

// writers measures what inserting events costs those who do it.
func writers(ctx context.Context, b *bench) error {
	for _, c := range []struct {
		title, unit string
		measure     func(ctx context.Context, dsn string) (float64, error)
	}{
		{"writers: 32 clients of pgbench, an insert of one row in each transaction", "inserts/s", b.pgbench(oneRow, 4*time.Second)},
		{"writers: 32 clients of pgbench, an insert of 100 rows in each transaction", "inserts/s", b.pgbench(hundredRows, 2*time.Second)},
		{fmt.Sprintf("writers: COPY of %s rows", grouped(copiedRows)), "rows/s", copyRows},
	} {
		if err := b.compareVariants(ctx, c.title, c.unit, c.measure); err != nil {
			return err
		}
	}
	return nil
}

// rounds is how often each variant is measured, in turn, so that what else the machine does meets all alike.
func (b *bench) rounds() int {
	if b.short {
		return 3
	}
	return 7
}

func (b *bench) compareVariants(ctx context.Context, title, unit string, measure func(context.Context, string) (float64, error)) error {
	results := make([][]float64, len(variants))
	for range b.rounds() {
		for i, v := range variants {
			result, err := b.measureVariant(ctx, v, measure)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			results[i] = append(results[i], result)
		}
	}
	t := newTable(title, "table", unit, "lowest", "highest", "of bare", "of no trigger", "of the row trigger")
	for i, v := range variants {
		r := results[i]
		t.row(v.name, median(r), slices.Min(r), slices.Max(r), median(ratios(r, results[0])), median(ratios(r, results[1])), median(ratios(r, results[2])))
	}
	t.print(b.out)
	return nil
}

// ratios compares round by round, so that a round on a busy machine is compared with itself.
func ratios(results, base []float64) []float64 {
	r := make([]float64, len(results))
	for i := range results {
		r[i] = results[i] / base[i]
	}
	return r
}

func (b *bench) measureVariant(ctx context.Context, v variant, measure func(context.Context, string) (float64, error)) (float64, error) {
	if v.follow {
		r, err := b.newRig(ctx)
		if err != nil {
			return 0, err
		}
		defer r.close(ctx)
		// Some of the consumers are there, so that the follower has somebody to read for.
		if _, err := r.openEach(10); err != nil {
			return 0, err
		}
		return measure(ctx, r.dsn)
	}
	dsn, err := b.database.copy(ctx, v.template)
	if err != nil {
		return 0, err
	}
	defer func() { b.complain(b.database.drop(context.WithoutCancel(ctx), dsn)) }()
	return measure(ctx, dsn)
}

func (b *bench) pgbench(script string, length time.Duration) func(context.Context, string) (float64, error) {
	return func(ctx context.Context, dsn string) (float64, error) {
		return pgbench(ctx, dsn, script, b.length(length))
	}
}

// copyRows returns the rows per second of a few COPYs.
func copyRows(ctx context.Context, dsn string) (float64, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	var rows strings.Builder
	for i := range copiedRows {
		_, _ = fmt.Fprintf(&rows, "insert\tc%d\t{\"foo\": \"bar\", \"n\": %d}\n", i%1000, i)
	}
	const times = 3
	start := time.Now()
	for range times {
		_, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(rows.String()), "copy events (type, subscriber, payload) from stdin")
		if err != nil {
			return 0, fmt.Errorf("copy: %w", err)
		}
	}
	return times * copiedRows / time.Since(start).Seconds(), nil
}
