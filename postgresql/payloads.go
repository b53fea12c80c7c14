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
	// maxLarge is about how many payloads that are not small fit into a read.
	maxLarge = maxReadBytes / 1024

	// selectPayloads reads payloads in the order of the ids, null for a deleted event, until those before have come to $2
	// bytes. A compressed one counts $3 times. Each is looked up in a way that leaves PostgreSQL no choice but the primary key:
	// it makes its plan once, maybe while the table is empty, and keeps it.
	selectPayloads = `
		select id, payload
		from (
			select id, payload, n, sum(
					pg_catalog.pg_column_size(payload) * case when pg_catalog.pg_column_compression(payload) is null then 1 else $3::bigint end
				) over (order by n rows between unbounded preceding and 1 preceding) as bytes
			from pg_catalog.unnest($1::bigint[]) with ordinality as w (id, n)
			left join lateral (
				select payload from events where events.id >= w.id and events.id <= w.id order by events.id limit 1
			) e on true
		) e
		where bytes is null or bytes < $2
		order by n`
)

// queuePayloads asks for the payloads of the events that have none, as core.Follower's FillPayloads promises. The answer
// is there once the batch has been sent.
func queuePayloads(batch *pgx.Batch, events []*core.Event) (filled *int) {
	ids := make([]int64, 0, len(events))
	for _, e := range events {
		if e.Payload == nil {
			ids = append(ids, e.ID)
		}
	}
	done := 0
	batch.Queue(selectPayloads, ids, maxReadBytes, compressionRatio).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			v := rows.RawValues()
			id := bigint(v[0])
			for events[done].ID != id {
				done++
			}
			if v[1] != nil {
				events[done].Payload = core.AppendCompact(make([]byte, 0, len(v[1])), v[1])
			}
			done++
			ids = ids[1:]
		}
		if len(ids) == 0 {
			done = len(events)
		}
		return rows.Err()
	})
	return &done
}
