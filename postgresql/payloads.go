package postgresql

import (
	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
)

const (
	// small tells the payloads that come along with their events. The number of events bounds how much that is, while the
	// larger ones have to be summed up, which takes PostgreSQL as long as all the rest of a read. Both look at what is
	// stored: the length of a payload is known only once it is fetched and decompressed.
	small = "pg_catalog.pg_column_size(payload) <= 1024 and pg_catalog.pg_column_compression(payload) is null"
	// maxReadBytes bounds the larger payloads of one read; one above it makes a read of its own. A compressed one is taken
	// to be compressionRatio times what is stored. JSON seldom shrinks as much; what is all repetition can be some ten times
	// more, and thirty times where the database compresses by lz4.
	maxReadBytes     = 512 << 10
	compressionRatio = 8
	// maxRatio is what none is compressed by.
	maxRatio = 300
	// maxLarge is about how many payloads that are not small fit into a read.
	maxLarge = maxReadBytes / 1024

	// liveBytes is the most that is transferred of one payload at the live end: a larger one would keep everybody else
	// waiting.
	liveBytes = 1 << 20

	// selectPayloads reads payloads in the order of the ids, null for a deleted event, until those before have come to $2
	// bytes. A compressed one counts $3 times. Of one above $4 bytes it only says so. A compressed one is decompressed to
	// tell how large it is, but only if $5 times as much would be above. Each is looked up in a way that leaves PostgreSQL no choice but the
	// primary key: it makes its plan once, maybe while the table is empty, and keeps it.
	selectPayloads = `
		select id, case when not above then payload end, above
		from (
			select id, payload, n, coalesce(case when compressed and stored * $5::bigint > $4
					then pg_catalog.octet_length(payload::text) else stored end > $4, false) as above,
				sum(case when not compressed and stored > $4 then 0 when compressed then stored * $3::bigint else stored end)
					over (order by n rows between unbounded preceding and 1 preceding) as bytes
			from pg_catalog.unnest($1::bigint[]) with ordinality as w (id, n)
			left join lateral (
				select payload, pg_catalog.pg_column_size(payload)::bigint as stored,
					pg_catalog.pg_column_compression(payload) is not null as compressed
				from events where events.id >= w.id and events.id <= w.id order by events.id limit 1
			) e on true
		) e
		where bytes is null or bytes < $2
		order by n`
)

// filling is how far the payloads of some events have been read.
type filling struct {
	// done counts the events that have been dealt with, in their order.
	done int
	// stopped reports that the next one is too large.
	stopped bool
}

// queue asks for the payloads of the events that have none. A deleted event is left without. The answer is there
// once the batch has been sent. It stops before a payload of more than maxBytes.
func (f *filling) queue(batch *pgx.Batch, events []*core.Event, maxBytes int) {
	f.ask(batch, events, maxBytes, maxRatio, func() bool { f.stopped = true; return false })
}

// queueLive does the same for the live end, which leaves such a payload out and goes on.
func (f *filling) queueLive(batch *pgx.Batch, events []*core.Event) {
	f.ask(batch, events, liveBytes, compressionRatio, func() bool { return true })
}

func (f *filling) ask(batch *pgx.Batch, events []*core.Event, maxBytes, ratio int, goOn func() bool) {
	ids := make([]int64, 0, len(events))
	for _, e := range events {
		if e.Payload == nil {
			ids = append(ids, e.ID)
		}
	}
	batch.Queue(selectPayloads, ids, maxReadBytes, compressionRatio, int64(maxBytes), int64(ratio)).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			v := rows.RawValues()
			if f.stopped {
				continue
			}
			for id := bigint(v[0]); events[f.done].ID != id; {
				f.done++
			}
			if v[2][0] != 0 && !goOn() {
				continue
			}
			if v[1] != nil {
				events[f.done].Payload = compact(v[1])
			}
			f.done++
			ids = ids[1:]
		}
		if len(ids) == 0 {
			f.done = len(events)
		}
		return rows.Err()
	})
}
