package postgresql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
)

// doorbellKey is the advisory lock that the trigger events_before_insert looks at: while somebody holds it
// shared, writers notify.
const doorbellKey = 0x4551 << 48

// maxReadEvents bounds the rows of one read of the live end.
const maxReadEvents = 2000

// follower implements core.Follower. One connection listens and reads.
type follower struct {
	*listener
	doorbell doorbell
}

// Follow implements core.Store: it connects, checks the schema, and listens before anything is read, so
// that what the first read does not see rings.
func (s *Store) Follow(ctx context.Context) (core.Follower, error) {
	c, err := connConfig(s.dsn, s.name)
	if err != nil {
		return nil, err
	}
	l, err := dial(ctx, c)
	if err != nil {
		return nil, err
	}
	f := &follower{listener: l}
	if err := f.listen(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// listen subscribes, and rings once itself: a pooler in transaction mode accepts LISTEN and swallows what
// comes of it.
func (f *follower) listen(ctx context.Context) error {
	// A role or a database may limit how long a session idles; this one idles by design.
	for _, statement := range []string{"set idle_session_timeout = 0", "listen new_events", "select pg_notify('new_events', '')"} {
		if _, err := f.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	rings, err := f.await(ctx, probeTimeout, true)
	if err != nil {
		return fmt.Errorf("wait for the first notification: %w", err)
	}
	if rings == 0 {
		return errors.New("no notification arrives although LISTEN succeeded: is there a pooler in transaction mode?")
	}
	return nil
}

const (
	// probeTimeout bounds the wait for the follower's own notification.
	probeTimeout = 5 * time.Second
	// doorbellTimeout bounds arming and disarming; a connection that takes longer is given up.
	doorbellTimeout = 5 * time.Second
)

// Newest implements core.Follower.
func (f *follower) Newest(ctx context.Context) (int64, error) { return newest(ctx, f.Conn) }

func newest(ctx context.Context, conn *pgx.Conn) (n int64, err error) {
	err = conn.QueryRow(ctx, "select events_newest(w.watermark) from events_watermark() w").Scan(&n)
	return n, err
}

// Read implements core.Follower.
func (f *follower) Read(ctx context.Context, after int64, consumers []string) (core.Read, error) {
	start := time.Now()
	r, err := f.read(ctx, after, consumers)
	if err == nil {
		f.doorbell.observe(r.Position > after, r.Writers, time.Since(start))
	}
	return r, err
}

// read runs events_read_live, whose comment tells what it returns.
func (f *follower) read(ctx context.Context, after int64, consumers []string) (r core.Read, err error) {
	rows, err := f.Query(ctx,
		`select id, type, "timestamp", subscriber, payload, position, more, sequence_position, watermark, writers, oldest_writer
		from events_read_live($1, $2, $3, $4)`,
		binaryFormat, after, int32(maxReadEvents), int64(maxReadBytes), consumers)
	if err != nil {
		return r, err
	}
	defer rows.Close()
	for rows.Next() {
		v := rows.RawValues()
		if v[0] != nil {
			e, err := event(v[0], v[1], v[2], v[4])
			if err != nil {
				return r, err
			}
			e.Consumer = string(v[3])
			r.Events = append(r.Events, e)
			continue
		}
		r.Position, r.More = bigint(v[5]), boolean(v[6])
		r.Sequence, r.Watermark, r.Writers = bigint(v[7]), bigint(v[8]), integer(v[9])
		if v[10] != nil {
			r.OldestWriter = integer(v[10])
		}
	}
	return r, rows.Err()
}

// FillPayloads implements core.Follower.
func (f *follower) FillPayloads(ctx context.Context, events []*core.Event) (int, error) {
	ids := make([]int64, 0, len(events))
	for _, e := range events {
		if e.Payload == nil {
			ids = append(ids, e.ID)
		}
	}
	rows, err := f.Query(ctx, "select id, payload from events_read_payloads($1, $2)",
		binaryFormat, ids, int64(maxReadBytes))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	done := 0
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
	return done, rows.Err()
}

// Wait implements core.Follower: it arms or disarms the doorbell as the traffic asks, and returns when it
// rings or when it is time to read unasked.
func (f *follower) Wait(ctx context.Context) error {
	now := time.Now()
	if f.doorbell.next(now) {
		if err := f.setDoorbell(ctx); err != nil {
			return err
		}
		if f.doorbell.armed {
			return nil // a writer that began before may not ring: read once more before waiting
		}
	}
	// Rings of a disarmed doorbell, of writers that found each other at it or rang for another follower, do not
	// hurry the cadence.
	rings, err := f.await(ctx, f.doorbell.pause(), f.doorbell.armed)
	f.doorbell.rang(rings)
	return err
}

func (f *follower) setDoorbell(ctx context.Context) error {
	query := "select pg_advisory_unlock_shared($1)"
	if f.doorbell.armed {
		query = "select pg_advisory_lock_shared($1)"
	}
	ctx, cancel := context.WithTimeout(ctx, doorbellTimeout)
	defer cancel()
	if _, err := f.Exec(ctx, query, int64(doorbellKey)); err != nil {
		return fmt.Errorf("set the doorbell: %w", err)
	}
	return nil
}

// Close implements core.Follower.
func (f *follower) Close() { closeConn(f.Conn) }
