package postgresql

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
)

// present is where history ends.
type present struct {
	// watermark is the highest id at or below which nothing can appear any more, newest the newest position there.
	watermark, newest int64
	// writers counts the transactions in flight that have inserted events.
	writers int
}

func readPresent(ctx context.Context, conn *pgx.Conn) (p present, err error) {
	var batch pgx.Batch
	batch.Queue("select w.watermark, events_newest(w.watermark), w.writers from events_watermark() w").QueryRow(func(row pgx.Row) error {
		return row.Scan(&p.watermark, &p.newest, &p.writers)
	})
	if err = sendRead(ctx, conn, &batch); err != nil {
		return p, fmt.Errorf("read the watermark: %w", err)
	}
	return p, nil
}

const (
	// Until the end of the transaction, which a batch is. PostgreSQL knows nothing of how few events a page is about, and
	// would rather look through a large table, after planning for longer than it reads.
	setPlanner = `select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
		set_config('plan_cache_mode', 'force_generic_plan', true), set_config('jit', 'off', true)`
	// For query n the events of $1[n] after $2[n] and through $4, one more than $3[n] of them to tell whether there is
	// another page, with their small payloads. Whole rows are compared so that only the index by subscriber and id will do:
	// by the ids alone, PostgreSQL might look through the events of all others. In any order, because PostgreSQL would sort
	// what comes sorted.
	selectPages = `
		select n, id, type, "timestamp", case when ` + small + ` then payload end
		from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::int[]))
			with ordinality as q (consumer, after, most, n)
		cross join lateral (
			select id, type, "timestamp", payload
			from events
			where (subscriber::text, id) > (q.consumer, q.after) and (subscriber::text, id) <= (q.consumer, $4::bigint)
			order by subscriber, id limit q.most + 1
		) e`
	// Retention is looked at after the events or their payloads: what a page misses was deleted before it was read.
	selectPruned = `
		select n, through
		from pg_catalog.unnest($1::text[]) with ordinality as q (consumer, n)
		join events_pruned p on p.subscriber = q.consumer`
	// The sequence's position, which is null before the first id is drawn and after setval(…, n, false). The present that a page ends at may be another
	// connection's, which says nothing of what this one is connected to.
	selectSequence = `
		select pg_is_in_recovery(), coalesce(pg_sequence_last_value(pg_get_serial_sequence('events', 'id')::regclass), events_position_unused())`
)

// readPages reads as Store.Pages promises, up to the given present, in one round trip while payloads are small.
func readPages(ctx context.Context, conn *pgx.Conn, queries []core.PageQuery, through present) ([]core.Page, error) {
	consumers := make([]string, len(queries))
	cursors := make([]int64, len(queries))
	limits := make([]int32, len(queries))
	pages := make([]core.Page, len(queries))
	for i, q := range queries {
		consumers[i], cursors[i], limits[i] = q.Consumer, q.After, int32(q.Limit) //nolint:gosec // bounded by the pager
		pages[i] = core.Page{Next: max(q.After, through.newest), Newest: through.newest}
	}
	var standby bool
	var sequence int64
	send := func(read func(*pgx.Batch)) error {
		var batch pgx.Batch
		batch.Queue(setPlanner)
		read(&batch)
		batch.Queue(selectPruned, consumers).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				v := rows.RawValues()
				// An event above the watermark can have been deleted, but is no position to go on from.
				pages[bigint(v[0])-1].Pruned = min(bigint(v[1]), through.newest)
			}
			return rows.Err()
		})
		batch.Queue(selectSequence).QueryRow(func(row pgx.Row) error { return row.Scan(&standby, &sequence) })
		return sendRead(ctx, conn, &batch)
	}

	err := send(func(batch *pgx.Batch) {
		batch.Queue(selectPages, consumers, cursors, limits, through.watermark).Query(func(rows pgx.Rows) error {
			return collectPages(rows, queries, pages)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	if large := withoutPayload(pages); len(large) > 0 {
		var filled *int
		err := send(func(batch *pgx.Batch) {
			filled = queuePayloads(batch, large[:min(len(large), maxLarge)])
		})
		if err != nil {
			return nil, fmt.Errorf("read the large payloads of pages: %w", err)
		}
		if rest := large[*filled:]; len(rest) > 0 {
			pages = cutPages(pages, rest[0])
		}
		dropDeleted(pages)
	}
	switch {
	case standby:
		return nil, fmt.Errorf("read pages: %w", errStandby)
	case sequence < through.newest:
		return nil, fmt.Errorf("read pages: the database has drawn ids up to %d and its newest event was %d: it was replaced",
			sequence, through.newest)
	}
	for i := range pages {
		pages[i].Ahead = queries[i].After > sequence
	}
	return pages, nil
}

// collectPages sorts the rows of selectPages into pages.
func collectPages(rows pgx.Rows, queries []core.PageQuery, pages []core.Page) error {
	var decoder decoder
	for rows.Next() {
		v := rows.RawValues()
		i := bigint(v[0]) - 1
		e, err := decoder.event(v[1], v[2], v[3], v[4])
		if err != nil {
			return err
		}
		e.Consumer = queries[i].Consumer
		pages[i].Events = append(pages[i].Events, e)
	}
	for i := range pages {
		slices.SortFunc(pages[i].Events, byID)
		if n := len(pages[i].Events); n > 0 {
			// The newest position was looked for before, and an event may have come since up to the watermark: where a
			// repair by setval took the sequence back, to its newest event, in between.
			pages[i].Next = max(pages[i].Next, pages[i].Events[n-1].ID)
		}
		if limit := queries[i].Limit; len(pages[i].Events) > limit {
			cutPage(&pages[i], limit)
		}
	}
	return rows.Err()
}

func withoutPayload(pages []core.Page) (events []*core.Event) {
	for _, page := range pages {
		for _, e := range page.Events {
			if e.Payload == nil {
				events = append(events, e)
			}
		}
	}
	return events
}

// cutPages ends the pages before one of their events. The page that begins with it is left out.
func cutPages(pages []core.Page, before *core.Event) []core.Page {
	for i := range pages {
		n := slices.Index(pages[i].Events, before)
		switch {
		case n == 0:
			return pages[:i]
		case n > 0:
			cutPage(&pages[i], n)
			return pages[:i+1]
		}
	}
	return pages
}

// cutPage leaves a page its first n events.
func cutPage(page *core.Page, n int) {
	page.Events = page.Events[:n]
	page.More, page.Next = true, page.Events[n-1].ID
}

// dropDeleted takes out the events that were deleted before their payloads were read.
func dropDeleted(pages []core.Page) {
	for i := range pages {
		pages[i].Events = slices.DeleteFunc(pages[i].Events, func(e *core.Event) bool { return e.Payload == nil })
	}
}
