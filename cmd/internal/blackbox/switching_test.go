//go:build unix

package blackbox_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core/coretest"
	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// TestSwitching has clients change at random between all ways to read, with one cursor, and between the topics that they are
// granted and follow, while writers race, roll back and keep transactions open, and retention deletes. Each sees every
// committed event of what it follows once and in order, and nothing else.
//
// SEED repeats what is drawn; what comes of it depends on the machine's timing as well.
func TestSwitching(t *testing.T) {
	t.Parallel()
	const writers, transactions, readers = 8, 80, 8
	seed := coretest.Seed(t)
	draw := func(n int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(n))) }
	dsn := pgtest.New(t)
	env := []string{"DATABASE_URL=" + dsn, "HEARTBEAT_INTERVAL=100ms", fmt.Sprint("MAX_TOPICS=", mostTopics), "REPLAY_CONNECTIONS=1"}
	streamer, poller := start(t, "stream", env...), start(t, "poll", env...)
	tokens := start(t, "stream", append(env, "AUTH=jwt", "JWT_SECRET="+tokenSecret, "JWT_TOPICS_CLAIM=topics")...)
	lambda := startLambda(t, dsn, gatewaytest.Config{Freeze: true, Env: env[2:3]})
	var oneAtATime sync.Mutex
	ways := []way{
		{"SSE", false, func(r *switching) error { return r.stream(streamer.addr) }},
		{"poll of stream", false, func(r *switching) error { return r.poll(streamer.url("")) }},
		{"poll", false, func(r *switching) error { return r.poll(poller.url("")) }},
		{"Lambda", false, func(r *switching) error {
			oneAtATime.Lock() // a second would be the start of another process
			defer oneAtATime.Unlock()
			return r.poll(lambda.URL())
		}},
		{"SSE with a token", true, func(r *switching) error { return r.stream(tokens.addr) }},
		{"poll with a token", true, func(r *switching) error { return r.poll(tokens.url("")) }},
	}

	var last atomic.Int64 // where readers end, once it is known
	var reading, writing, pruning sync.WaitGroup
	all := make([]*switching, readers)
	for n := range all {
		r := &switching{consumer: addresses[n%2], random: draw(n), last: &last, used: map[string]int{}}
		all[n] = r
		reading.Go(func() {
			if err := r.run(ways); err != nil {
				t.Errorf("reader %d: %v", n, err)
			}
		})
	}
	for n := range writers {
		random := draw(100 + n)
		writing.Go(func() {
			if err := write(dsn, random, addresses, transactions); err != nil {
				t.Errorf("writer: %v", err)
			}
		})
	}
	written := make(chan struct{})
	rows := map[int64]row{}
	db, random := connect(t, dsn), draw(99)
	pruning.Go(func() {
		for {
			select {
			case <-written:
				return
			default:
			}
			if err := prune(db, random, rows, streamer, poller, tokens); err != nil {
				t.Errorf("retention: %v", err)
				return
			}
		}
	})
	writing.Wait()
	close(written)
	pruning.Wait()
	last.Store(db.insert(t, "nobody", "insert", `{}`))
	reading.Wait()

	kept, err := collect(db, rows, false, "select id, subscriber::text from events")
	if err != nil {
		t.Fatal(err)
	}
	told := map[kind]int{}
	for n, r := range all {
		for _, s := range r.sessions {
			for _, m := range s.messages {
				told[m.kind]++
			}
			if err := s.check(rows); err != nil {
				t.Errorf("reader %d: %v", n, err)
			}
		}
		t.Logf("reader %d, %s: %d sessions, read by %v, refused %d", n, r.consumer, len(r.sessions), r.used, r.refused)
	}
	t.Logf("%d events, %d pruned, %d deliveries, %d resets", len(rows), len(rows)-kept, told[delivered], told[reset])
}

func consumerName(n int) string { return fmt.Sprint("consumer-", n) }

// write runs transactions of one to four events for random addresses, a few of them large. A quarter is rolled back, some
// only to a savepoint, and every tenth stays open for a while with its ids drawn.
func write(dsn string, random *rand.Rand, addresses []string, transactions int) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	const insert = `insert into events (type, timestamp, subscriber, payload) values ('insert', now(), $1, to_json(repeat('x', $2)))`
	for range transactions {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		for range 1 + random.IntN(4) {
			size := random.IntN(100)
			if random.IntN(32) == 0 {
				size <<= 12
			}
			few := addresses[:1+random.IntN(len(addresses))] // so that the first get more than the last
			if _, err := tx.Exec(ctx, insert, pick(random, few), size); err != nil {
				return err
			}
			if random.IntN(8) == 0 {
				if err := never(ctx, tx, insert, pick(random, addresses)); err != nil {
					return err
				}
			}
		}
		pause := random.Float64() / 200
		if random.IntN(10) == 0 {
			pause *= 20
		}
		if _, err := tx.Exec(ctx, "select pg_sleep($1)", pause); err != nil {
			return err
		}
		if random.IntN(4) == 0 {
			err = tx.Rollback(ctx)
		} else {
			err = tx.Commit(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// never inserts an event and takes it back.
func never(ctx context.Context, tx pgx.Tx, insert, address string) error {
	saved, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := saved.Exec(ctx, insert, address, 1); err != nil {
		return err
	}
	return saved.Rollback(ctx)
}

// row is an event that was committed.
type row struct {
	address string
	pruned  bool
}

// prune deletes events of a random address. All programs have read them, since one that is deleted before it was read by
// who waits for it is missed without a word.
func prune(db database, random *rand.Rand, rows map[int64]row, programs ...*program) error {
	read := int64(math.MaxInt64)
	for _, p := range programs {
		authorization := bearer("nobody", nil)
		a, err := try(http.MethodGet, p.url("/events/poll?wait=0"), "nobody", "Authorization", authorization)
		if err != nil {
			return err
		}
		b, err := a.tryBatch()
		if err != nil {
			return err
		}
		read = min(read, b.Cursor)
	}
	_, err := collect(db, rows, true, `with pause as materialized (select pg_sleep($3))
		delete from events using pause where subscriber = $1 and id <= $2 returning id, subscriber::text`,
		pick(random, addresses), random.Int64N(1+read), random.Float64()/5)
	return err
}

// collect notes the rows that a statement returns, and counts them.
func collect(db database, rows map[int64]row, pruned bool, sql string, args ...any) (n int, _ error) {
	found, err := db.Query(context.Background(), sql, args...)
	if err != nil {
		return 0, err
	}
	var id int64
	var address string
	_, err = pgx.ForEachRow(found, []any{&id, &address}, func() error {
		rows[id] = row{address, pruned}
		n++
		return nil
	})
	return n, err
}

type way struct {
	name  string
	token bool // what is granted is in a token
	read  func(*switching) error
}

// switching is a reader that takes its cursor from one session to the next.
type switching struct {
	consumer string
	random   *rand.Rand
	last     *atomic.Int64

	cursor   int64
	interest interest
	sessions []*session
	refused  int
	used     map[string]int
}

// done reports that the reader has come to the last event.
func (r *switching) done() bool {
	last := r.last.Load()
	return last > 0 && r.cursor >= last
}

func (r *switching) run(ways []way) error {
	for !r.done() {
		if r.last.Load() == 0 && r.random.IntN(6) == 0 {
			r.cursor = r.random.Int64N(r.cursor/500+1) * 500 // as several may that begin anew, and share a page
		}
		w := pick(r.random, ways)
		r.interest = newInterest(r.random, r.consumer, w.token)
		s := &session{way: w.name, after: r.cursor, interest: r.interest}
		r.sessions = append(r.sessions, s)
		err := w.read(r)
		refusal := new(refusedError)
		if errors.As(err, &refusal) && slices.Contains(r.interest.refusals, refusal.status) {
			r.refused++
			continue
		}
		if err == nil && len(r.interest.refusals) > 0 {
			err = fmt.Errorf("want it refused with one of %v", r.interest.refusals)
		}
		if err != nil {
			return fmt.Errorf("%s after %d, as %+v: %w", w.name, r.cursor, r.interest, err)
		}
		r.used[w.name]++
	}
	return nil
}

func (r *switching) see(m message) {
	s := r.sessions[len(r.sessions)-1]
	s.messages = append(s.messages, m)
	r.cursor = m.id
}

// stream reads some frames of a session, some readers slowly, and leaves it in the middle.
func (r *switching) stream(addr string) error {
	target := "/events?format=" + pick(r.random, []string{"payload", "event", "cloudevents"}) + r.interest.query
	s, err := openAt(addr, target, r.consumer, r.cursor, r.interest.headers...)
	if err != nil {
		return err
	}
	defer s.close()
	slow := r.random.IntN(3) == 0
	if slow {
		if err := s.conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
			return err
		}
	}
	for n := 1 + r.random.IntN(40); n > 0 && !r.done(); n-- {
		if slow && r.random.IntN(4) == 0 {
			time.Sleep(time.Duration(r.random.IntN(40)) * time.Millisecond)
		}
		f, err := s.next()
		if err != nil {
			return err
		}
		switch f.event {
		case "heartbeat":
			r.see(message{progress, f.id, ""})
		case "reset":
			r.see(message{reset, f.id, ""})
		default:
			var said struct{ Subscriber, Subject string } // nothing of either in the payload alone, which is a string
			_ = json.Unmarshal([]byte(f.data), &said)
			r.see(message{delivered, f.id, cmp.Or(said.Subscriber, said.Subject)})
		}
	}
	return nil
}

func (r *switching) poll(base string) error {
	url := fmt.Sprintf("%s/events/poll?after=%d&limit=%d&wait=%d%s", base, r.cursor, 1+r.random.IntN(30), r.random.IntN(2), r.interest.query)
	a, err := try(http.MethodGet, url, r.consumer, r.interest.headers...)
	if err != nil {
		return err
	}
	switch a.status {
	case http.StatusForbidden, http.StatusUnprocessableEntity:
		return &refusedError{a.status}
	case http.StatusGone:
		var said problem
		if err := json.Unmarshal([]byte(a.body), &said); err != nil || said.Reason != "pruned" {
			return fmt.Errorf("%s: want it said that events were pruned, got %s", a.request, a.body)
		}
		r.see(message{reset, *said.Oldest, ""})
		return nil
	}
	b, err := a.tryBatch()
	if err != nil {
		return err
	}
	for _, e := range b.Events {
		r.see(message{delivered, e.ID, e.Subscriber})
	}
	r.see(message{progress, b.Cursor, ""})
	return nil
}

// difference tells where what a reader has seen first departs from what it should have.
func difference(want, got []int64) string {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			return fmt.Sprintf("event %d is %d, want %d", i, got[i], want[i])
		}
	}
	if len(want) == len(got) {
		return "none"
	}
	return fmt.Sprintf("the first %d are right", min(len(want), len(got)))
}

// untilEnd reads a stream to its end and returns the ids of its events.
func (s *stream) untilEnd() (ids []int64, err error) {
	for {
		f, err := s.nextEvent()
		if errors.Is(err, io.EOF) {
			return ids, nil
		}
		if err != nil {
			return ids, err
		}
		ids = append(ids, f.id)
	}
}
