package postgresql

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
)

// doorbellKey is the advisory lock that the trigger events_before_insert looks at: while somebody holds it
// shared, writers notify.
const doorbellKey = 0x4551 << 48

// maxReadEvents bounds the ids, and with them the rows, of one read of the live end.
const maxReadEvents = 2000

// follower implements core.Follower. One connection listens and reads.
type follower struct {
	*listener
	doorbell doorbell
	listens  bool
	read     time.Time // when the last read ended
}

// planned is for the few queries of the live end, which are planned once, maybe over an empty table: a plan for each read
// would take longer than the read.
var planned = []parameter{{"plan_cache_mode", "force_generic_plan"}, {"enable_seqscan", "off"}}

// Follow implements core.Store: it connects, checks the schema, and listens before anything is read, so
// that what the first read does not see rings.
func (s *Store) Follow(ctx context.Context) (core.Follower, error) {
	l, err := s.follow(ctx)
	if err != nil {
		return nil, err
	}
	f := &follower{listener: l}
	if l.deaf.lasts() {
		f.doorbell.refused()
		return f, nil
	}
	if err := f.listen(ctx); err != nil {
		f.Close()
		if l.deaf.lasts() && ctx.Err() == nil {
			s.log.Warn("doing without notifications for a while", "error", err)
			return s.Follow(ctx)
		}
		return nil, err
	}
	f.listens = true
	return f, nil
}

const (
	// doorbellTimeout bounds arming and disarming; a connection that takes longer is given up.
	doorbellTimeout = 5 * time.Second
)

// selectKept tells the stamp of the event $1, and the highest of the positions $2 whose event has the stamp in $3, or was
// deleted by retention. A stamp is the event's time: nobody can change it, a dump keeps it, and an event that comes to have
// the id of a lost one was inserted later.
const selectKept = `
	select
		(select pg_catalog.timestamptz_send("timestamp") from events where id = $1),
		(select coalesce(max(m.id), 0) from rows from (pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::bytea[])) as m (id, stamp)
			where exists (select from events e where e.id = m.id and pg_catalog.timestamptz_send(e."timestamp") = m.stamp)
				or exists (select from events_pruned p where p.through >= m.id))`

// stampBytes is a mark's stamp as timestamptz_send has it.
func stampBytes(m core.Mark) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(m.Stamp)) //nolint:gosec // two's complement on the wire
}

// Look implements core.Follower.
func (f *follower) Look(ctx context.Context, known []core.Mark) (s core.Standing, err error) {
	ids, stamps := make([]int64, len(known)), make([][]byte, len(known))
	for i, m := range known {
		ids[i], stamps[i] = m.ID, stampBytes(m)
	}
	err = f.attend(ctx, func(ctx context.Context) error {
		now, err := readHorizon(ctx, f.Conn)
		if err != nil {
			return err
		}
		s.Newest.ID = now.Newest
		var stamp []byte
		if err := f.QueryRow(ctx, selectKept, now.Newest, ids, stamps).Scan(&stamp, &s.Kept); err != nil {
			return fmt.Errorf("look for what was read: %w", err)
		}
		if stamp != nil {
			s.Newest.Stamp = bigint(stamp)
		}
		return nil
	})
	return s, err
}

// Read implements core.Follower. It takes one round trip.
func (f *follower) Read(ctx context.Context, after int64, consumers []string) (core.Read, error) {
	start := time.Now()
	r := core.Read{Position: after}
	var batch pgx.Batch
	batch.Queue(selectWatermark).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			v := rows.RawValues()
			r.Sequence, r.Watermark = bigint(v[0]), bigint(v[1])
			r.Writers, r.OldestWriter = int(bigint(v[2])), int(bigint(v[3]))
		}
		return rows.Err()
	})
	batch.Queue(selectEvents, after, consumers, maxReadEvents).Query(func(rows pgx.Rows) error {
		return collectEvents(rows, &r)
	})
	if err := f.ask(ctx, &batch); err != nil {
		return r, unreadable(err)
	}
	f.read = time.Now()
	f.doorbell.observe(r.Position > after, r.Writers, f.read.Sub(start))
	return r, nil
}

// The two statements of a read, each with a snapshot of its own. Why their order makes the watermark exact is said in the
// migration, at events_present.
const (
	// The next statement takes the watermark up.
	selectWatermark = `
		select sequence_position, set_config('event_piper.watermark', watermark::text, true)::bigint, writers, coalesce(oldest_writer, 0)
		from events_present`
	// The events of the consumers in $2 with their small payloads or, if it is null, those of all without, among the next
	// $3 ids, of which it also tells the last that there is: what is for others stays where it is. If all of the next ids were
	// rolled back, up to the next event there is. In any order, because PostgreSQL would sort what comes sorted. Each order
	// and limit inside leaves it no choice but the primary key, OFFSET keeps it from looking for the last once more for
	// each use, and IN with OR makes it look the consumers up in a hash table.
	selectEvents = `
		select last, id, type, "timestamp", subscriber,
			case when $2::text[] is not null and ` + small + ` then payload end, amends, traceparent, stamp
		from (select current_setting('event_piper.watermark')::bigint as watermark offset 0) w
		cross join lateral (
			(select id as last, "timestamp" as stamp from events
				where id > $1 and id <= least($1::bigint + $3::bigint, watermark) order by id desc limit 1)
			union all
			(select id, "timestamp" from events where id > $1 and id <= watermark order by id limit 1)
			limit 1
		) next
		left join lateral (select * from events where id > $1 and id <= last order by id limit $3) e
			on $2::text[] is null or subscriber::text in (select pg_catalog.unnest($2::text[]))`
)

// collectEvents takes the rows of selectEvents into r, whose position moves past them.
func collectEvents(rows pgx.Rows, r *core.Read) error {
	after := r.Position
	for rows.Next() {
		v := rows.RawValues()
		r.Position = bigint(v[0])
		r.Mark = core.Mark{ID: r.Position, Stamp: bigint(v[8])}
		if v[1] == nil {
			continue // none is wanted
		}
		e, err := event(v[1], v[2], v[3], v[5], v[6], v[7])
		if err != nil {
			return err
		}
		e.Consumer = string(v[4])
		r.Events = append(r.Events, e)
	}
	slices.SortFunc(r.Events, byID)
	r.More = after < r.Position && r.Position < r.Watermark && after+maxReadEvents < r.Watermark
	return rows.Err()
}

// FillPayloads implements core.Follower.
func (f *follower) FillPayloads(ctx context.Context, events []*core.Event) (int, error) {
	var batch pgx.Batch
	var filled filling
	filled.queueLive(&batch, events)
	err := f.ask(ctx, &batch)
	return filled.done, unreadable(err)
}

// ask sends statements and takes their answers, as long as they keep coming.
func (f *follower) ask(ctx context.Context, batch *pgx.Batch) error {
	return f.attend(ctx, func(ctx context.Context) error { return f.SendBatch(ctx, batch).Close() })
}

// Wait implements core.Follower: it arms or disarms the doorbell as the traffic asks, and returns when it
// rings or when it is time to read unasked. One who hurries it has no read begin sooner than the cadence of busy traffic would.
func (f *follower) Wait(ctx, hurried context.Context) error {
	if !f.listens {
		if f.deaf.lasts() {
			return f.rest(ctx, f.doorbell.pause())
		}
		if err := f.listen(ctx); err != nil {
			return err
		}
		f.listens, f.doorbell = true, doorbell{}
	}
	now := time.Now()
	if f.doorbell.next(now) {
		if err := f.setDoorbell(ctx); err != nil {
			return err
		}
		if f.doorbell.armed {
			return nil // a writer that began before may not ring: read once more before waiting
		}
	}
	if !f.doorbell.armed {
		return f.rest(ctx, f.doorbell.pause())
	}
	rings, err := f.await(ctx, hurried, f.doorbell.pause())
	f.doorbell.rang(rings)
	if pause := f.doorbell.busyPause - time.Since(f.read); err == nil && hurried.Err() != nil && pause > 0 {
		return f.rest(ctx, pause)
	}
	return err
}

// rest waits for the cadence of busy traffic without listening, which would wake the process up for nothing: rings of a
// disarmed doorbell, of writers that found each other at it or rang for another follower, do not hurry the cadence.
func (f *follower) rest(ctx context.Context, pause time.Duration) error {
	select {
	case <-time.After(pause):
		f.rings = 0
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *follower) setDoorbell(ctx context.Context) error {
	query := "select pg_advisory_unlock_shared($1)"
	if f.doorbell.armed {
		query = "select pg_try_advisory_lock_shared($1)"
	}
	ctx, cancel := context.WithTimeout(ctx, doorbellTimeout)
	defer cancel()
	var done bool
	err := f.unflooded(func() error { return f.QueryRow(ctx, query, int64(doorbellKey)).Scan(&done) })
	if err != nil {
		return fmt.Errorf("set the doorbell: %w", err)
	}
	if f.doorbell.armed && !done {
		f.doorbell.refused()
	}
	return nil
}

// Close implements core.Follower.
func (f *follower) Close() { f.close() }
