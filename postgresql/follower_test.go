package postgresql_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func TestReadsGoOnPastIdsThatWereRolledBack(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	const (
		drawn  = "begin; insert into events (type, subscriber, payload) select 'a', 'toto', '{}' from generate_series(1, 5000); rollback"
		insert = "insert into events (type, subscriber, payload) select 'a', (array['toto', 'titi'])[n % 2 + 1], '{}' from generate_series(1, $1) n"
	)
	// More than a read takes at a time: ids that nobody sees before, between and after events, and events.
	for _, events := range []int{1, 5, 4500} {
		exec(t, conn, drawn)
		exec(t, conn, insert, events)
	}
	exec(t, conn, drawn)

	for name, c := range map[string]struct {
		consumers []string
		want      string
	}{
		"of one consumer":  {[]string{"toto"}, "where subscriber = 'toto'"},
		"of none":          {[]string{}, "where false"},
		"of all consumers": {nil, ""},
	} {
		rows, err := conn.Query(t.Context(), "select id from events "+c.want+" order by id")
		if err != nil {
			t.Fatal(err)
		}
		want, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			t.Fatal(err)
		}
		f := follow(t, dsn)
		var ids []int64
		var after int64
		for reads, more := 0, true; more; reads++ {
			r, err := f.Read(t.Context(), after, c.consumers)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, e := range r.Events {
				ids = append(ids, e.ID)
			}
			if r.More && r.Position == after || reads > 20 {
				t.Fatalf("%s: read %d gets nowhere after %d", name, reads, after)
			}
			after, more = r.Position, r.More
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%s: read %d events, want %d", name, len(ids), len(want))
		}
		if newest := query[int64](t, conn, "select max(id) from events"); after != newest {
			t.Errorf("%s: read to position %d, want %d", name, after, newest)
		}
	}
}

// A follower that comes back after a long time must get ahead by bounded steps, whatever lies between.
func TestAReadGoesPastABoundedNumberOfOthersEvents(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	f := follow(t, dsn)
	exec(t, conn, insert)
	exec(t, conn, "insert into events (type, subscriber, payload) select 'insert', 'titi', '{}' from generate_series(1, 5000)")
	exec(t, conn, insert)
	var positions, ids []int64
	for after, more := int64(0), true; more; {
		r, err := f.Read(t.Context(), after, []string{"toto"})
		if err != nil || len(positions) > 5 {
			t.Fatalf("after %v: %v", positions, err)
		}
		for _, e := range r.Events {
			ids = append(ids, e.ID)
		}
		after, more = r.Position, r.More
		positions = append(positions, after)
	}
	if !slices.Equal(ids, []int64{1, 5002}) || !slices.Equal(positions, []int64{2000, 4000, 5002}) {
		t.Errorf("read %v in steps that ended at %v; want [1 5002] and [2000 4000 5002]", ids, positions)
	}
}

// Or the follower would read again and again for as long as the writer takes.
func TestAReadIsNotCutShortByWhatIsHeldBack(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, slow := connect(t, dsn), connect(t, dsn)
	f := follow(t, dsn)
	exec(t, slow, "begin")
	exec(t, slow, insert)
	exec(t, conn, "insert into events (type, subscriber, payload) select 'insert', 'toto', '{}' from generate_series(1, 2500)")
	if r, err := f.Read(t.Context(), 0, []string{"toto"}); err != nil || len(r.Events) > 0 || r.Position != 0 || r.More {
		t.Errorf("%d events up to %d, more %t (%v); want none", len(r.Events), r.Position, r.More, err)
	}
}

func TestAReadEndsAtTheWatermark(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, slow := connect(t, dsn), connect(t, dsn)
	f := follow(t, dsn)
	read := func(after int64, position int64, want ...int64) {
		t.Helper()
		r, err := f.Read(t.Context(), after, []string{"toto"})
		var got []int64
		for _, e := range r.Events {
			got = append(got, e.ID)
		}
		if err != nil || !slices.Equal(got, want) || r.Position != position || r.More {
			t.Errorf("after %d: %v up to %d, more %t (%v); want %v up to %d and no more", after, got, r.Position, r.More, err, want, position)
		}
	}
	exec(t, conn, insert)
	exec(t, slow, "begin")
	exec(t, slow, insert)
	exec(t, conn, insert)
	read(0, 1, 1)
	read(1, 1)
	read(0, 1, 1)
	exec(t, slow, "commit")
	read(1, 3, 2, 3)
	exec(t, conn, insert)
	read(3, 4, 4)
}
