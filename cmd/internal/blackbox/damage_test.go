//go:build unix

package blackbox_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// TestDamagedPayloads destroys two pages of the file that holds large payloads, as a bad disk does. Their consumers
// are told that there is something wrong; another's history and live events do not suffer.
func TestDamagedPayloads(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, map[string]string{"zero_damaged_pages": "off"})
	dsn := server.DSN()
	launch(t, "stream", []string{"migrate"}, "DATABASE_URL="+dsn).exit(t, 0)
	db := connect(t, dsn)
	db.exec(t, "alter table events alter payload set storage external") // a payload takes as many pages as its length says
	// Each begins in another page.
	large := func(consumer string) int64 {
		return query[int64](t, db, `insert into events (type, timestamp, subscriber, payload)
			values ('insert', now(), $1, to_json(repeat('x', 100000))) returning id`, consumer)
	}
	damaged := map[string]int64{} // the events before the damaged ones
	for _, consumer := range []string{"missing", "invalid"} {
		damaged[consumer] = db.insert(t, consumer, "insert", `"before"`)
		large(consumer)
	}
	history := []int64{db.insert(t, "toto", "insert", `1`), large("toto")}
	file := query[string](t, db, `select current_setting('data_directory') || '/' || pg_relation_filepath(reltoastrelid::regclass)
		from pg_class where oid = 'events'::regclass`)
	const page = 8192
	size := query[int64](t, db, "select pg_relation_size(reltoastrelid::regclass) from pg_class where oid = 'events'::regclass")
	if size < 36*page {
		t.Fatalf("the file of payloads has %d bytes, want the three of them in it", size)
	}

	if err := server.Halt(false); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Clean(file), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, page)
	for i := range noise {
		noise[i] = 0xa5
	}
	for at, bytes := range map[int64][]byte{5: make([]byte, page), 18: noise} {
		if _, err := f.WriteAt(bytes, at*page); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	db = connect(t, dsn)

	for _, name := range []string{"stream", "poll"} {
		p := start(t, name, "DATABASE_URL="+dsn)
		s := site{base: p.url(""), db: db}
		var suffering []*stream
		if name == "stream" {
			for consumer, before := range damaged {
				for range 3 { // they ask again and again while the others read
					session := mustOpen(t, p.addr, consumer, 0)
					session.want(t, before)
					suffering = append(suffering, session)
				}
			}
			session := mustOpen(t, p.addr, "toto", 0)
			session.want(t, history...)
			history = append(history, db.insert(t, "toto", "insert", `2`))
			session.want(t, history[len(history)-1])
		}
		for consumer, before := range damaged {
			b := s.poll(t, consumer, "after=0&wait=0").batch(t)
			if len(b.Events) != 1 || b.Events[0].ID != before {
				t.Errorf("%s: %s got %v, want what comes before the damaged event, %d", name, consumer, b.ids(), before)
			}
			s.poll(t, consumer, fmt.Sprint("wait=0&after=", before)).problem(t, http.StatusServiceUnavailable)
		}
		s.settle(t)
		b := s.poll(t, "toto", "after=0&wait=0").batch(t)
		if len(b.Events) != len(history) {
			t.Errorf("%s: toto got %v, want %v", name, b.ids(), history)
		}
		sent, answered := make(chan struct{}), make(chan answer, 1)
		go func() { answered <- s.waitingPoll(t, "toto", fmt.Sprint("wait=25&after=", b.Cursor), sent) }()
		<-sent
		history = append(history, db.insert(t, "toto", "insert", `3`))
		if got := (<-answered).batch(t).ids(); len(got) != 1 || got[0] != history[len(history)-1] {
			t.Errorf("%s: a waiting poll got %v, want %d", name, got, history[len(history)-1])
		}
		if a := ask(t, http.MethodGet, p.url("/manage/health"), ""); a.status != http.StatusOK {
			t.Errorf("%s: health is %d, want 200 for one consumer's damage", name, a.status)
		}
		for _, session := range suffering {
			session.close()
		}
		p.stop(t)
	}
}
