//go:build unix

package blackbox_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// testTopics: one row, many readers. Each reads its own address, and of the topics granted those that it follows.
func testTopics(t *testing.T, s site) {
	before := s.settle(t)
	own := s.db.insert(t, "reader", "insert", `"own"`)
	team := s.db.insert(t, "team-7", "insert", `"team"`)
	order := s.db.insert(t, "order-17", "insert", `"order"`)
	comma := s.db.insert(t, "a,b", "insert", `"comma"`)
	secret := s.db.insert(t, "team-77", "insert", `"secret"`)
	last := s.db.insert(t, "reader", "insert", `"last"`)
	s.settle(t)
	for _, c := range []struct {
		grants, query string
		want          []int64
	}{
		{"", "", []int64{own, last}},
		{"team-7, order-*", "", []int64{own, team, last}},
		{"team-7, order-*", "topics=", []int64{own, last}},
		{"team-7, order-*", "topics=order-17", []int64{own, order, last}},
		{"team-7,order-*,a%2Cb", "topics=order-17,team-7&topics=a%252Cb", []int64{own, team, order, comma, last}},
		{"a%2Cb,reader", "", []int64{own, comma, last}},
		{"*", "topics=team-77&types=insert", []int64{own, secret, last}},
	} {
		name := fmt.Sprintf("grants %q, %q", c.grants, c.query)
		b := s.poll(t, "reader", fmt.Sprintf("wait=0&after=%d&%s", before, c.query), "X-Consumer-Topics", c.grants).batch(t)
		if !slices.Equal(b.ids(), c.want) || b.Cursor != last || b.More {
			t.Errorf("%s: want %v, the cursor at %d and no more; got %v, %d, %v", name, c.want, last, b.ids(), b.Cursor, b.More)
		}
		var paged []int64
		for cursor, more := before, true; more; {
			b := s.poll(t, "reader", fmt.Sprintf("wait=0&limit=1&after=%d&%s", cursor, c.query), "X-Consumer-Topics", c.grants).batch(t)
			paged = append(paged, b.ids()...)
			cursor, more = b.Cursor, b.More
		}
		if !slices.Equal(paged, c.want) {
			t.Errorf("%s: want one at a time %v, got %v", name, c.want, paged)
		}
	}
	for _, c := range []struct {
		grants, query string
		status        int
	}{
		{"team-7", "topics=team-77", http.StatusForbidden},
		{"team-7", "topics=team-7,order-17", http.StatusForbidden},
		{"", "topics=team-7", http.StatusForbidden},
		{"team-*", "topics=team-*x%25", http.StatusUnprocessableEntity},
		{"*", "topics=" + strings.Repeat("x", 256), http.StatusUnprocessableEntity},
		{"team%", "", http.StatusBadRequest},
	} {
		s.poll(t, "reader", "wait=0&"+c.query, "X-Consumer-Topics", c.grants).problem(t, c.status)
	}
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprint("t", i)
	}
	s.poll(t, "reader", "wait=0", "X-Consumer-Topics", strings.Join(many, ",")).problem(t, http.StatusUnprocessableEntity)
	s.poll(t, "reader", "wait=0", "X-Consumer-Topics", strings.Join(many[:64], ",")).batch(t)
}

// TestTopicsOfAStream replays and goes on live over several addresses, in the order of ids.
func TestTopicsOfAStream(t *testing.T) {
	t.Parallel()
	t.Run("stream", func(t *testing.T) {
		dsn := pgtest.New(t)
		testTopicsOfAStream(t, dsn, start(t, "stream", "DATABASE_URL="+dsn).addr)
	})
	t.Run("lambda", func(t *testing.T) {
		dsn := pgtest.New(t)
		testTopicsOfAStream(t, dsn, startStreamLambda(t, dsn, gatewaytest.Config{Freeze: true}))
	})
}

func testTopicsOfAStream(t *testing.T, dsn, addr string) {
	db := connect(t, dsn)
	var want []int64
	insert := func(n int) {
		for i := range n {
			id := db.insert(t, []string{"toto", "team-7", "order-17", "others"}[i%4], "insert", `{}`)
			if i%4 != 3 {
				want = append(want, id)
			}
		}
	}
	db.insert(t, "order-99", "insert", `{}`)
	insert(40)
	const target = "/events?topics=order-17,team-7"
	s, err := openAt(addr, target, "toto", 0, "X-Consumer-Topics", "team-7,order-*")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.want(t, want[:20]...)
	insert(40)
	s.want(t, want[20:]...)

	joined := want[len(want)/2]
	later, err := openAt(addr, target, "titi", joined, "X-Consumer-Topics", "team-7,order-*")
	if err != nil {
		t.Fatal(err)
	}
	defer later.close()
	for _, id := range want[len(want)/2+1:] {
		if query[string](t, db, fmt.Sprint("select subscriber from events where id = ", id)) != "toto" {
			later.want(t, id)
		}
	}

	// Of an address that nobody has read nothing is in memory: the database is asked.
	db.exec(t, "delete from events where subscriber = 'order-99'")
	reset, err := openAt(addr, "/events?topics=order-99", "tutu", 0, "X-Consumer-Topics", "team-7,order-*")
	if err != nil {
		t.Fatal(err)
	}
	defer reset.close()
	if f, err := reset.nextEvent(); err != nil || f.event != "reset" || !strings.Contains(f.data, `"pruned"`) {
		t.Errorf("want a reset for a topic that has lost events, got %+v (%v)", f, err)
	}
	if _, err := openAt(addr, target, "toto", 0, "X-Consumer-Topics", "team-7"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("want 403 for a topic that is not granted, got %v", err)
	}
}

// TestNoTopics: where no session may follow any, each still has its own address.
func TestNoTopics(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	id := connect(t, dsn).insert(t, "toto", "insert", `{}`)
	p := start(t, "stream", "DATABASE_URL="+dsn, "MAX_TOPICS=0")
	for _, query := range []string{"", "?topics=team-7", "?topics=toto,team-7"} {
		for _, path := range []string{"/events", "/events/poll"} {
			ask(t, http.MethodGet, p.url(path+query), "toto", "X-Consumer-Topics", "team-7").problem(t, http.StatusUnprocessableEntity)
		}
	}
	for _, query := range []string{"?topics=", "?topics=toto"} {
		s, err := openAt(p.addr, "/events"+query, "toto", 0, "X-Consumer-Topics", "team-7")
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		s.want(t, id)
		if b := ask(t, http.MethodGet, p.url("/events/poll"+query+"&after=0"), "toto", "X-Consumer-Topics", "team-7").batch(t); !slices.Equal(b.ids(), []int64{id}) {
			t.Errorf("%s: want event %d, got %v", query, id, b.ids())
		}
	}
}
