package postgresql

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
)

// readHorizon looks where history ends.
func readHorizon(ctx context.Context, conn *pgx.Conn) (h core.Horizon, err error) {
	var batch pgx.Batch
	batch.Queue("select w.watermark, events_newest(w.watermark, 'events', 'events_pruned'), w.writers from events_watermark() w").QueryRow(func(row pgx.Row) error {
		return row.Scan(&h.Watermark, &h.Newest, &h.Writers)
	})
	if err = sendRead(ctx, conn, &batch); err != nil {
		return h, fmt.Errorf("read the watermark: %w", err)
	}
	return h, nil
}

const (
	// Until the end of the transaction, which a batch is. PostgreSQL knows nothing of how few events a page is about, and
	// would rather look through a large table, after planning for longer than it reads.
	setPlanner = `select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
		set_config('plan_cache_mode', 'force_generic_plan', true)`
	// For part n the events of address $1[n] after $2[n] and through $4, one more than $3[n] of them to tell whether there
	// are more, with their small payloads. Whole rows are compared so that only the index by subscriber and id will do: by
	// the ids alone, PostgreSQL might look through the events of all others. In any order, because PostgreSQL would sort
	// what comes sorted.
	selectPages = `
		select n, id, type, "timestamp", case when ` + small + ` then payload end, false, amends, traceparent
		from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::int[]))
			with ordinality as q (address, after, most, n)
		cross join lateral (
			select id, type, "timestamp", payload, amends, traceparent
			from events
			where (subscriber::text, id) > (q.address, q.after) and (subscriber::text, id) <= (q.address, $4::bigint)
			order by subscriber, id limit q.most + 1
		) e`
	// The same for parts some of which are about the types in $5[n], a list with line breaks, alone: no type has one. No more
	// than $6 events are looked at for a part. The last of these comes along in any case, to tell how far that led.
	selectTypedPages = `
		select n, id, type, "timestamp", case when ` + small + ` then payload end, r = $6, amends, traceparent
		from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::int[]),
				pg_catalog.unnest($5::text[]))
			with ordinality as q (address, after, most, types, n)
		cross join lateral (select pg_catalog.string_to_array(q.types, E'\n') as types offset 0) wanted
		cross join lateral (
			select id, type, "timestamp", payload, amends, traceparent, r
			from (
				select *, pg_catalog.row_number() over (order by subscriber, id) as r
				from (
					select subscriber::text, id, type, "timestamp", payload, amends, traceparent
					from events
					where (subscriber::text, id) > (q.address, q.after) and (subscriber::text, id) <= (q.address, $4::bigint)
					order by subscriber, id limit $6
				) looked
			) numbered
			where q.types is null or type::text = any (wanted.types) or r = $6
			order by subscriber, id limit q.most + 1
		) e`
	// Retention is looked at after the events or their payloads: what a page misses was deleted before it was read.
	selectPruned = `
		select n, coalesce(p.through, everybody.through)
		from pg_catalog.unnest($1::text[]) with ordinality as q (address, n)
		left join events_pruned p on p.subscriber = q.address
		left join events_pruned everybody on everybody.subscriber = '' and p.through is null
		where coalesce(p.through, everybody.through) is not null`
	// The sequence's position, which is null before the first id is drawn and after setval(…, n, false). The horizon that a page ends at may be another
	// connection's, which says nothing of what this one is connected to: a new primary, maybe, which has lost the event $1 with
	// the stamp $2 and has passed its id.
	selectSequence = `
		select pg_is_in_recovery(), coalesce(pg_sequence_last_value(pg_get_serial_sequence('events', 'id')::regclass), events_position_unused()),
			$1::bigint = 0 or exists (select from events e where e.id = $1 and pg_catalog.timestamptz_send(e."timestamp") = $2::bytea)
				or exists (select from events_pruned p where p.through >= $1)`
)

// maxLooked bounds the events that a read looks at, in all, for pages of some types: it keeps others waiting.
const maxLooked = 20_000

// part is what queries ask of one address. Followers of a topic ask the same of it, which is read once for all of them.
type part struct {
	asked
	types  core.Types
	events []*core.Event
	// through is up to where events is complete, and more whether there are more after it.
	through int64
	more    bool
	// pruned is how far retention has deleted of the address.
	pruned int64
}

// asked tells parts apart.
type asked struct {
	address string
	after   int64
	most    int
	list    string // of the types, in lines
}

// parts splits queries by their addresses, and returns what is to be read and which of it is for which query. Together
// those of a query bring little more than it asks for.
func parts(queries []core.PageQuery) (parts []part, of [][]int) {
	known := map[asked]int{}
	of = make([][]int, len(queries))
	for i, q := range queries {
		a := asked{after: q.After, most: q.Limit, list: strings.Join(q.Types, "\n")}
		if n := len(q.Addresses); n > 1 {
			a.most = min(a.most, max(16, a.most/n))
		}
		of[i] = make([]int, len(q.Addresses))
		for j, address := range q.Addresses {
			a.address = address
			n, ok := known[a]
			if !ok {
				n = len(parts)
				known[a] = n
				parts = append(parts, part{asked: a, types: q.Types})
			}
			of[i][j] = n
		}
	}
	return parts, of
}

// readPages reads as Store.Pages promises, up to the given horizon, in one round trip while payloads are small.
func readPages(ctx context.Context, conn *pgx.Conn, queries []core.PageQuery, through core.Horizon, known core.Mark, maxPayload int) ([]core.Page, error) {
	parts, of := parts(queries)
	addresses := make([]string, len(parts))
	cursors := make([]int64, len(parts))
	limits := make([]int32, len(parts))
	types := make([]*string, len(parts))
	typed := false
	for i := range parts {
		p := &parts[i]
		addresses[i], cursors[i], limits[i] = p.address, p.after, int32(p.most) //nolint:gosec // bounded by the pager
		if p.list != "" {
			types[i], typed = &p.list, true
		}
	}
	pages := make([]core.Page, len(queries))
	for i, q := range queries {
		pages[i] = core.Page{Next: max(q.After, through.Newest), Newest: through.Newest}
	}
	if known.Stamp == 0 {
		known.ID = 0 // there is nothing to look for
	}
	var standby, kept bool
	var sequence int64
	send := func(read func(*pgx.Batch)) error {
		var batch pgx.Batch
		batch.Queue(setPlanner)
		read(&batch)
		batch.Queue(selectPruned, addresses).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				v := rows.RawValues()
				p := &parts[bigint(v[0])-1]
				// An event above the watermark can have been deleted, but is no position to go on from.
				p.pruned = max(p.pruned, min(bigint(v[1]), through.Newest))
			}
			return rows.Err()
		})
		batch.Queue(selectSequence, known.ID, stampBytes(known)).QueryRow(func(row pgx.Row) error { return row.Scan(&standby, &sequence, &kept) })
		return sendRead(ctx, conn, &batch)
	}

	err := send(func(batch *pgx.Batch) {
		collect := func(rows pgx.Rows) error { return collectParts(rows, parts) }
		if typed {
			looked := max(maxLooked/len(parts), 100)
			batch.Queue(selectTypedPages, addresses, cursors, limits, through.Watermark, types, int64(looked)).Query(collect)
		} else {
			batch.Queue(selectPages, addresses, cursors, limits, through.Watermark).Query(collect)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read pages: %w", unreadable(err))
	}
	mergeParts(parts, of, queries, pages)
	if err := dropAmended(ctx, conn, queries, pages, through); err != nil {
		return nil, fmt.Errorf("read what is amended: %w", unreadable(err))
	}
	if large := withoutPayload(pages); len(large) > 0 {
		var filled filling
		err := send(func(batch *pgx.Batch) {
			filled.queue(batch, large[:min(len(large), maxLarge)], maxPayload)
		})
		if err != nil {
			return nil, fmt.Errorf("read the large payloads of pages: %w", unreadable(err))
		}
		if rest := large[filled.done:]; len(rest) > 0 {
			pages = cutPages(pages, rest, filled.stopped)
		}
		dropDeleted(pages)
	}
	switch {
	case standby:
		return nil, fmt.Errorf("read pages: %w", errStandby)
	case sequence < through.Newest:
		return nil, fmt.Errorf("read pages: %w: it has drawn ids up to %d, and the newest event was %d", core.ErrReplaced,
			sequence, through.Newest)
	case !kept:
		return nil, fmt.Errorf("read pages: %w: the event %d was read, and is another or gone", core.ErrReplaced, known.ID)
	}
	for i, q := range queries[:len(pages)] {
		pages[i].Ahead = q.After > sequence
		for _, n := range of[i] {
			pages[i].Pruned = max(pages[i].Pruned, parts[n].pruned)
		}
	}
	return pages, nil
}

// collectParts sorts the rows of selectPages into parts.
func collectParts(rows pgx.Rows, parts []part) error {
	var decoder decoder
	for rows.Next() {
		v := rows.RawValues()
		p := &parts[bigint(v[0])-1]
		if v[5][0] != 0 { // the last that was looked at
			p.more, p.through = true, bigint(v[1])
			if !p.types.Want(string(v[2])) {
				continue
			}
		}
		e, err := decoder.event(v[1], v[2], v[3], v[4], v[6], v[7])
		if err != nil {
			return err
		}
		e.Consumer = p.address
		p.events = append(p.events, e)
	}
	for i := range parts {
		p := &parts[i]
		slices.SortFunc(p.events, byID)
		if len(p.events) > p.most {
			p.events = p.events[:p.most]
			p.more, p.through = true, p.events[p.most-1].ID
		}
	}
	return rows.Err()
}

// mergeParts makes pages of their parts: in order, and up to where all parts are complete. Pages share events, and
// nothing else.
func mergeParts(parts []part, of [][]int, queries []core.PageQuery, pages []core.Page) {
	for i, q := range queries {
		page := &pages[i]
		for _, n := range of[i] {
			p := &parts[n]
			if p.more {
				if !page.More || p.through < page.Next {
					page.Next = p.through
				}
				page.More = true
			}
			page.Events = append(page.Events, p.events...)
		}
		if len(q.Addresses) > 1 {
			slices.SortFunc(page.Events, byID)
			if page.More {
				n, _ := slices.BinarySearchFunc(page.Events, page.Next+1, func(e *core.Event, id int64) int { return cmp.Compare(e.ID, id) })
				page.Events = page.Events[:n]
			}
		}
		if n := len(page.Events); n > 0 && !page.More {
			// The newest position was looked for before, and an event may have come since up to the watermark: where a
			// repair by setval took the sequence back, to its newest event, in between.
			page.Next = max(page.Next, page.Events[n-1].ID)
		}
		if len(page.Events) > q.Limit {
			cutPage(page, q.Limit)
		}
	}
}

// selectAmended tells which events of $1 a later one of the same address amends that is settled, up to $2. The ids are
// taken one by one, because a hash index does not take a list, and each once, however many amend it. OFFSET keeps
// PostgreSQL from going by the primary key.
const selectAmended = `
	select e.id from pg_catalog.unnest($1::bigint[]) n join events e on e.id = n cross join lateral (
		select from (select id, subscriber from events where amends = n offset 0) a
		where a.id <= $2 and a.id > n and a.subscriber::text = e.subscriber::text limit 1) one`

// dropAmended takes out the events that are amended of the pages that leave them out.
func dropAmended(ctx context.Context, conn *pgx.Conn, queries []core.PageQuery, pages []core.Page, through core.Horizon) error {
	amended := map[int64]bool{} // and whether it is, once it is known
	for i, q := range queries {
		if q.Current {
			for _, e := range pages[i].Events {
				amended[e.ID] = false
			}
		}
	}
	if len(amended) == 0 {
		return nil
	}
	var batch pgx.Batch
	batch.Queue(setPlanner)
	batch.Queue(selectAmended, slices.Sorted(maps.Keys(amended)), through.Watermark).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			amended[bigint(rows.RawValues()[0])] = true
		}
		return rows.Err()
	})
	if err := sendRead(ctx, conn, &batch); err != nil {
		return err
	}
	for i, q := range queries {
		if q.Current {
			pages[i].Events = slices.DeleteFunc(pages[i].Events, func(e *core.Event) bool { return amended[e.ID] })
		}
	}
	return nil
}

// withoutPayload returns the events that have no payload yet, each once, in the order in which pages need them.
func withoutPayload(pages []core.Page) (events []*core.Event) {
	seen := map[*core.Event]bool{}
	for _, page := range pages {
		for _, e := range page.Events {
			if e.Payload == nil && !seen[e] {
				seen[e] = true
				events = append(events, e)
			}
		}
	}
	return events
}

// cutPages ends each page before the first event whose payload was left. A page that begins with the first of those says
// so if it is oversized; another that begins with one is left out, and those after it.
func cutPages(pages []core.Page, left []*core.Event, oversized bool) []core.Page {
	isLeft := make(map[*core.Event]bool, len(left))
	for _, e := range left {
		isLeft[e] = true
	}
	for i := range pages {
		page := &pages[i]
		n := slices.IndexFunc(page.Events, func(e *core.Event) bool { return isLeft[e] })
		switch {
		case n > 0:
			cutPage(page, n)
		case n == 0 && oversized && page.Events[0] == left[0]:
			*page = core.Page{Newest: page.Newest, More: true, Next: left[0].ID - 1, Oversized: left[0].ID}
		case n == 0:
			return pages[:i]
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
