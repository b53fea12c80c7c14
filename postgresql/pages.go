package postgresql

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
)

// maxReadBytes bounds the payloads of one read; a larger event makes a read of its own.
const maxReadBytes = 512 << 10

// present is where history ends.
type present struct {
	// watermark is the highest id at or below which nothing can appear any more, newest the newest position there.
	watermark, newest int64
	// writers counts the transactions in flight that have inserted events.
	writers int
}

func readPresent(ctx context.Context, conn *pgx.Conn) (p present, err error) {
	err = conn.QueryRow(ctx, "select w.watermark, events_newest(w.watermark), w.writers from events_watermark() w").
		Scan(&p.watermark, &p.newest, &p.writers)
	if err != nil {
		return p, fmt.Errorf("read the watermark: %w", err)
	}
	return p, nil
}

const (
	// Until the end of the transaction, which a batch is. PostgreSQL knows nothing of how few events a page is about, and
	// would rather look through a large table.
	setPlanner = "select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)"
	// For query n the events of $1[n] after $2[n] and through $4, one more than $3[n] of them to tell whether there is
	// another page. All end when the payloads before have come to $5 bytes, behind one more event without its payload.
	// Whole rows are compared so that only the index by subscriber and id will do: by the ids alone, PostgreSQL might look
	// through the events of all others.
	selectPages = `
		select n, id, type, "timestamp", case when bytes is null or bytes < $5 then payload end
		from (
			select n, e.*, sum(octet_length(payload)) over w as bytes, lag(octet_length(payload)) over w as last
			from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::int[]))
				with ordinality as q (consumer, after, most, n)
			cross join lateral (
				select id, type, "timestamp", payload::text as payload
				from events
				where (subscriber, id) > (q.consumer, q.after) and (subscriber, id) <= (q.consumer, $4::bigint)
				order by subscriber, id limit q.most + 1
			) e
			window w as (order by n, id rows between unbounded preceding and 1 preceding)
		) e
		where bytes is null or bytes - last < $5
		order by n, id`
	// Retention is looked at after the events: what a page misses was deleted before it was read.
	selectPruned = `
		select n, through
		from pg_catalog.unnest($1::text[]) with ordinality as q (consumer, n)
		join events_pruned p on p.subscriber = q.consumer`
	selectSequenceByName = "select pg_sequence_last_value(pg_get_serial_sequence('events', 'id')::regclass)"
)

// readPages reads as Store.Pages promises, up to the given present, in one round trip.
func readPages(ctx context.Context, conn *pgx.Conn, queries []core.PageQuery, through present) ([]core.Page, error) {
	consumers := make([]string, len(queries))
	cursors := make([]int64, len(queries))
	limits := make([]int32, len(queries))
	pages := make([]core.Page, len(queries))
	for i, q := range queries {
		consumers[i], cursors[i], limits[i] = q.Consumer, q.After, int32(q.Limit) //nolint:gosec // bounded by the pager
		pages[i] = core.Page{Next: max(q.After, through.newest), Newest: through.newest}
	}
	var batch pgx.Batch
	batch.Queue(setPlanner)
	batch.Queue(selectPages, consumers, cursors, limits, through.watermark, maxReadBytes).Query(func(rows pgx.Rows) error {
		answered, err := collectPages(rows, queries, pages)
		pages = pages[:answered]
		return err
	})
	batch.Queue(selectPruned, consumers).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			v := rows.RawValues()
			if i := bigint(v[0]) - 1; i < int64(len(pages)) {
				// An event above the watermark can have been deleted, but is no position to go on from.
				pages[i].Pruned = min(bigint(v[1]), through.newest)
			}
		}
		return rows.Err()
	})
	var sequence int64
	batch.Queue(selectSequenceByName).QueryRow(scanSequence(&sequence))
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	if sequence < through.newest {
		return nil, fmt.Errorf("read pages: the database has drawn ids up to %d and its newest event was %d: it was replaced",
			sequence, through.newest)
	}
	for i := range pages {
		pages[i].Ahead = queries[i].After > sequence
	}
	return pages, nil
}

// collectPages sorts the rows of selectPages into pages and returns how many of them have been answered.
func collectPages(rows pgx.Rows, queries []core.PageQuery, pages []core.Page) (answered int, _ error) {
	var decoder decoder
	answered = len(pages)
	for rows.Next() {
		v := rows.RawValues()
		i := int(bigint(v[0])) - 1
		page, cut := &pages[i], v[4] == nil
		n := len(page.Events)
		if cut { // the later pages are left out, and so is this one unless it has begun
			answered = i + min(n, 1)
		}
		if cut || n == queries[i].Limit {
			if n > 0 {
				page.More, page.Next = true, page.Events[n-1].ID
			}
			continue
		}
		e, err := decoder.event(v[1], v[2], v[3], v[4])
		if err != nil {
			return 0, err
		}
		e.Consumer = queries[i].Consumer
		page.Events = append(page.Events, e)
	}
	return answered, rows.Err()
}

// scanSequence scans a sequence's last value, which is null before the first is drawn.
func scanSequence(value *int64) func(pgx.Row) error {
	return func(row pgx.Row) error {
		var last *int64
		err := row.Scan(&last)
		if last != nil {
			*value = *last
		}
		return err
	}
}
