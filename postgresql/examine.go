package postgresql

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// Finding is one thing that was looked at: what was seen and, if it is a problem, what to do about it.
type Finding struct {
	Problem bool
	Text    string
}

const (
	// clockSlack is a difference of clocks that explains itself by the way there and back.
	clockSlack = 2 * time.Second
	// longHeld is how long a transaction may hold events back before somebody should look.
	longHeld = 10 * time.Second
	// fullQueue is the share of PostgreSQL's notification queue above which somebody does not read his notifications.
	fullQueue = 0.1
)

// Examine looks at a database as a reader of events would, and at what makes readers wait.
func Examine(ctx context.Context, c Config) (findings []Finding) {
	note := func(problem bool, format string, args ...any) {
		findings = append(findings, Finding{problem, fmt.Sprintf(format, args...)})
	}
	store, err := Open(ctx, c)
	if err != nil {
		note(true, "%v", err)
		return findings
	}
	defer store.Close()
	f, err := store.Follow(ctx)
	if err != nil {
		note(true, "%v", err)
		return findings
	}
	defer f.Close()
	if f.(*follower).listens {
		note(false, "a primary that can be followed: its encoding, schema, rights and sequence are right, and LISTEN works")
	} else {
		note(true, "notifications come without end, and events are read without them: who notifies is in pg_stat_activity")
	}

	conn := f.(*follower).Conn
	var version string
	var clock float64
	var queue float64
	err = conn.QueryRow(ctx, "select current_setting('server_version'), extract(epoch from clock_timestamp())::float8, pg_notification_queue_usage()").
		Scan(&version, &clock, &queue)
	if err != nil {
		note(true, "ask about the server: %v", err)
		return findings
	}
	note(false, "PostgreSQL %s", version)
	ahead := time.Until(time.UnixMicro(int64(clock * 1e6))).Round(time.Millisecond)
	if ahead.Abs() > clockSlack {
		note(true, "the server's clock differs from this machine's by %v: latencies are measured with both", ahead)
	}
	if queue > fullQueue {
		note(true, "the notification queue is %.0f %% full: some session listens and does not read", math.Ceil(queue*100))
	}
	examineWriters(ctx, conn, note)
	examineHistory(ctx, conn, note)
	return findings
}

func examineWriters(ctx context.Context, conn *pgx.Conn, note func(bool, string, ...any)) {
	var writers int
	var age float64
	var pid *int
	err := conn.QueryRow(ctx, `
		select count(*), coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8,
			(pg_catalog.array_agg(w.pid order by a.xact_start))[1]
		from events_writers w left join pg_stat_activity a on a.pid = w.pid`).Scan(&writers, &age, &pid)
	held := time.Duration(age * float64(time.Second)).Round(time.Second)
	switch {
	case err != nil:
		note(true, "look at the writers in flight: %v", err)
	case writers > 0 && pid == nil:
		note(true, "a prepared transaction holds events back: select * from pg_prepared_xacts, then commit or roll it back")
	case held > longHeld:
		note(true, "process %d has held events back for %v: its transaction inserted events and has not ended", *pid, held)
	default:
		note(false, "%d transactions that insert events are in flight", writers)
	}
}

func examineHistory(ctx context.Context, conn *pgx.Conn, note func(bool, string, ...any)) {
	var size int64
	var oldest *time.Time
	var unreachable bool
	var above *int64
	err := conn.QueryRow(ctx, `select pg_total_relation_size('events'),
		(select case when isfinite("timestamp") then "timestamp" end from events order by id limit 1),
		exists (select from events where id <= 0),
		(select id from (select id from events order by id desc limit 1) newest
			where id > coalesce(pg_sequence_last_value(pg_get_serial_sequence('events', 'id')::regclass), events_position_unused()))`).
		Scan(&size, &oldest, &unreachable, &above)
	if unreachable {
		note(true, "events have ids below 1, which no cursor leads to: their inserts chose ids (overriding system value); delete them and insert them anew")
	}
	if above != nil {
		note(true, "events have ids above the sequence, up to %d: their inserts chose ids, nobody is sent them yet, and an insert that draws one will fail: "+
			"select setval(pg_get_serial_sequence('events', 'id'), %d)", *above, *above)
	}
	switch {
	case err != nil:
		note(true, "look at the history: %v", err)
	case oldest == nil:
		note(false, "no events are kept, in %d MB", size>>20)
	default:
		note(false, "the oldest event is of %s, and all take %d MB: stream prune deletes what is old", oldest.UTC().Format(time.DateOnly), size>>20)
	}
}
