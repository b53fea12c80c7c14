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
	what string
	// start, if not nil, starts a server of its own before prepare, and returns its URL.
	start   func(ctx context.Context, r *round) (base string, err error)
	prepare string // SQL
	// rows, if not empty, is the SQL of the events with their positions in it, where those are not ids.
	rows    string
	session func(b *besideReader, ctx context.Context, s *check.Session) error
}

var besides = map[string]beside{
	"cursor": {what: "a reader that asks for id > cursor", session: overConnection((*besideReader).byCursor)},
	"centrifugo": {
		what:  "Centrifugo's PostgreSQL broker, to which a row trigger publishes, by unidirectional SSE",
		start: startCentrifugo, prepare: centrifugoTrigger, rows: centrifugoRows, session: (*besideReader).byCentrifugo,
	},
	"notify": {
		what: "NOTIFY with the event in it, by a row trigger, and a replay of id > cursor",
		prepare: `create function chaos_notify() returns trigger language plpgsql as $$ begin
				perform pg_notify('chaos_events', json_build_object('id', new.id, 'type', new.type, 'subscriber', new.subscriber, 'payload', new.payload)::text);
				return null;
			end $$;
			create trigger chaos_notify after insert on events for each row execute function chaos_notify()`,
		session: overConnection((*besideReader).byNotification),
	},
}

// besideName begins the names of such readers.
const besideName = "beside "

type besideReader struct {
	beside
	reader   *reader // of which it uses the cursor and the history
	database *database
	base     string // of the server that start has started
	epoch    string // of the cursor, where there are epochs
	ended    bool   // it got the last event
}

func (r *round) startBeside(ctx context.Context, running *sync.WaitGroup) error {
	way, found := besides[r.beside]
	if !found {
		return nil
	}
	var base string
	if way.start != nil {
		var err error
		if base, err = way.start(ctx, r); err != nil {
			return fmt.Errorf("start %s: %w", r.beside, err)
		}
	}
	if way.prepare != "" {
		if err := r.world.database.exec(ctx, way.prepare); err != nil {
			return fmt.Errorf("prepare %s: %w", r.beside, err)
		}
	}
	for i, address := range consumers {
		draw := random(r.seed, uint64(3000+i))
		b := &besideReader{beside: way, database: r.world.database, base: base,
			reader: newReader(r.record.reader(fmt.Sprint(besideName, i)), address, draw, &r.ends)}
		running.Go(func() { b.run(ctx, draw) })
	}
	return nil
}

func (b *besideReader) run(ctx context.Context, draw *rand.Rand) {
	defer b.reader.h1.CloseIdleConnections()
	for ctx.Err() == nil && !b.ended {
		s := &check.Session{Via: "beside", Addresses: []string{b.reader.address}, After: b.reader.cursor}
		session, cancel := context.WithTimeout(ctx, between(draw, time.Second, 8*time.Second))
		_ = b.session(b, session, s) // it is ended now and then, and goes on from its cursor
		cancel()
		if len(s.Messages) > 0 {
			b.reader.history.Sessions = append(b.reader.history.Sessions, *s)
		}
		_ = sleep(ctx, 50*time.Millisecond)
	}
}

// got keeps a message and moves the cursor.
func (b *besideReader) got(s *check.Session, m check.Message) {
	b.reader.got(s, m)
	b.ended = b.ended || m.Token == lastToken(b.reader.address)
}

// overConnection has a session read over a connection of its own to the database.
func overConnection(read func(*besideReader, context.Context, *pgx.Conn, *check.Session) error) func(*besideReader, context.Context, *check.Session) error {
	return func(b *besideReader, ctx context.Context, s *check.Session) error {
		conn, err := b.database.connect(ctx, "beside")
		if err != nil {
			return err
		}
		defer func() {
			closing, over := context.WithTimeout(context.Background(), time.Second)
			defer over()
			_ = conn.Close(closing)
		}()
		return read(b, ctx, conn, s)
	}
}

// byCursor polls for what is after the cursor, every few milliseconds.
func (b *besideReader) byCursor(ctx context.Context, conn *pgx.Conn, s *check.Session) error {
	for !b.ended {
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
		b.got(s, m)
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
	for !b.ended {
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
		b.got(s, m)
	}
	return nil
}

// besideVerdict takes the readers beside out of the history, and says how they fared.
func (r *round) besideVerdict(ctx context.Context, h *check.History) (string, error) {
	way, found := besides[r.beside]
	if !found {
		return "", nil
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
	if way.rows != "" {
		c, err := r.world.database.connect(ctx, "beside")
		if err != nil {
			return "", err
		}
		defer func() { _ = c.Close(ctx) }()
		if other.Rows, err = readRows(ctx, c, way.rows); err != nil {
			return "", fmt.Errorf("read the positions of %s: %w", r.beside, err)
		}
	}
	verdict := check.Verify(&other)
	counts := map[check.Fault]int{}
	for _, v := range verdict.Violations {
		counts[v.Fault]++
	}
	all, lost := received(&other)
	others := len(verdict.Violations) - counts[check.Lost] - counts[check.Repeated] - counts[check.Reordered]
	return fmt.Sprintf("%s: of %d events lost %d, repeated %d, out of order %d, other violations %d (in %d sessions)", way.what, all,
		lost, counts[check.Repeated], counts[check.Reordered], others, verdict.Sessions), nil
}

// received counts the events of the readers, one each for an address, and those that did not come in any session. The
// checker calls lost what a cursor has passed as well; here that is out of order, if it comes after all.
func received(h *check.History) (all, lost int) {
	came := map[string]bool{}
	for _, reader := range h.Readers {
		for _, s := range reader.Sessions {
			for _, m := range s.Messages {
				came[s.Addresses[0]+" "+m.Token] = true
			}
		}
	}
	for _, row := range h.Rows {
		if slices.Contains(consumers, row.Address) {
			all++
			if !came[row.Address+" "+row.Token] {
				lost++
			}
		}
	}
	return all, lost
}
