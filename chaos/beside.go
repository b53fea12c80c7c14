package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/chaos/check"
)

// beside is another way to read the same table, by the same rules: a cursor, and sessions that end now and then. Its
// readers run beside ours, over the same writers and faults, and the same checker looks at what they got.
type beside struct {
	what    string
	prepare string // SQL
	session func(b *besideReader, ctx context.Context, conn *pgx.Conn, s *check.Session) error
}

var besides = map[string]beside{
	"cursor": {what: "a reader that asks for id > cursor", session: (*besideReader).byCursor},
	"notify": {
		what: "NOTIFY with the event in it, by a row trigger, and a replay of id > cursor",
		prepare: `create function chaos_notify() returns trigger language plpgsql as $$ begin
				perform pg_notify('chaos_events', json_build_object('id', new.id, 'type', new.type, 'subscriber', new.subscriber, 'payload', new.payload)::text);
				return null;
			end $$;
			create trigger chaos_notify after insert on events for each row execute function chaos_notify()`,
		session: (*besideReader).byNotification,
	},
}

// besideName begins the names of such readers.
const besideName = "beside "

type besideReader struct {
	beside
	reader   *reader // of which it uses the cursor, the history and the end
	database *database
}

func (r *round) startBeside(ctx context.Context, running *sync.WaitGroup) error {
	way, found := besides[r.beside]
	if !found {
		return nil
	}
	if way.prepare != "" {
		if err := r.world.database.exec(ctx, way.prepare); err != nil {
			return fmt.Errorf("prepare %s: %w", r.beside, err)
		}
	}
	for i, address := range consumers {
		draw := random(r.seed, uint64(3000+i))
		b := &besideReader{beside: way, database: r.world.database,
			reader: newReader(r.record.reader(fmt.Sprint(besideName, i)), address, draw, &r.ends)}
		running.Go(func() { b.run(ctx, draw) })
	}
	return nil
}

func (b *besideReader) run(ctx context.Context, draw *rand.Rand) {
	for ctx.Err() == nil && !b.reader.done() {
		after := b.reader.cursor
		s := &check.Session{Via: "database", Addresses: []string{b.reader.address}, After: after}
		session, cancel := context.WithTimeout(ctx, between(draw, time.Second, 8*time.Second))
		if conn, err := b.database.connect(session, "beside"); err == nil {
			_ = b.session(b, session, conn, s) // it is ended now and then, and goes on from its cursor
			closing, over := context.WithTimeout(context.Background(), time.Second)
			_ = conn.Close(closing)
			over()
		}
		cancel()
		if len(s.Messages) > 0 {
			b.reader.history.Sessions = append(b.reader.history.Sessions, *s)
		}
		_ = sleep(ctx, 50*time.Millisecond)
	}
}

// byCursor polls for what is after the cursor, every few milliseconds.
func (b *besideReader) byCursor(ctx context.Context, conn *pgx.Conn, s *check.Session) error {
	for !b.reader.done() {
		if err := b.replay(ctx, conn, s); err != nil {
			return err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// replay reads what is after the cursor.
func (b *besideReader) replay(ctx context.Context, conn *pgx.Conn, s *check.Session) error {
	rows, err := conn.Query(ctx, "select id, type, payload::text from events where subscriber = $1 and id > $2 order by id", b.reader.address, b.reader.cursor)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var m check.Message
		var payload []byte
		if err := rows.Scan(&m.ID, &m.Type, &payload); err != nil {
			return err
		}
		if m.Token, m.Payload, err = identify(payload); err != nil {
			return err
		}
		m.Kind = check.Delivery
		b.reader.got(s, m)
	}
	return rows.Err()
}

// byNotification listens, replays, and then takes what is notified.
func (b *besideReader) byNotification(ctx context.Context, conn *pgx.Conn, s *check.Session) error {
	if _, err := conn.Exec(ctx, "listen chaos_events"); err != nil {
		return err
	}
	if err := b.replay(ctx, conn, s); err != nil {
		return err
	}
	for !b.reader.done() {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		var event struct {
			ID               int64
			Type, Subscriber string
			Payload          json.RawMessage
		}
		if err := json.Unmarshal([]byte(n.Payload), &event); err != nil {
			return err
		}
		if event.Subscriber != b.reader.address {
			continue
		}
		m := check.Message{Kind: check.Delivery, ID: event.ID, Type: event.Type}
		if m.Token, m.Payload, err = identify(event.Payload); err != nil {
			return err
		}
		b.reader.got(s, m)
	}
	return nil
}

// besideVerdict takes the readers beside out of the history, and says how they fared.
func (r *round) besideVerdict(h *check.History) string {
	way, found := besides[r.beside]
	if !found {
		return ""
	}
	other := *h
	other.Readers = nil
	h.Readers = slices.DeleteFunc(h.Readers, func(reader check.Reader) bool {
		if !strings.HasPrefix(reader.Name, besideName) {
			return false
		}
		other.Readers = append(other.Readers, reader)
		return true
	})
	verdict := check.Verify(&other)
	counts := map[check.Fault]int{}
	for _, v := range verdict.Violations {
		counts[v.Fault]++
	}
	var all int
	for _, row := range h.Rows {
		if slices.Contains(consumers, row.Address) {
			all++
		}
	}
	return fmt.Sprintf("%s: of %d events lost %d, repeated %d, out of order %d (in %d sessions)", way.what, all,
		counts[check.Lost], counts[check.Repeated], counts[check.Reordered], verdict.Sessions)
}
