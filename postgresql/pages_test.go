package postgresql

import (
	"encoding/binary"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
)

// pageRows are rows of selectPages, in PostgreSQL's binary format.
type pageRows struct {
	pgx.Rows
	ids []int64
	at  int
}

func (r *pageRows) Next() bool { r.at++; return r.at <= len(r.ids) }
func (r *pageRows) Err() error { return nil }

func (r *pageRows) RawValues() [][]byte {
	number := func(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	return [][]byte{number(1), number(r.ids[r.at-1]), []byte("insert"), number(0), []byte("{}"), {0}, nil, nil}
}

// A repair of the sequence by setval, while no transaction is in flight, between the look at the newest position and
// the page: the page has an event that is newer than the newest.
func TestAPageEndsNowhereBeforeItsLastEvent(t *testing.T) {
	queries := []core.PageQuery{{Addresses: []string{"toto"}, After: 5, Limit: 10}}
	pages := []core.Page{{Next: 8, Newest: 8}}
	parts, of := parts(queries)
	if err := collectParts(&pageRows{ids: []int64{6, 9}}, parts); err != nil {
		t.Fatal(err)
	}
	mergeParts(parts, of, queries, pages)
	if pages[0].Next != 9 {
		t.Errorf("want a page with the events 6 and 9 to end at 9, got %d", pages[0].Next)
	}
}
