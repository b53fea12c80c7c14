package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/chaos/check"
)

// record is the history while it is being made.
type record struct {
	mu      sync.Mutex
	writes  []check.Write   // guarded by mu
	readers []*check.Reader // guarded by mu; each is filled by its own reader
	rewinds []check.Rewind  // guarded by mu
}

func (r *record) wrote(outcome check.Outcome, tokens ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tokens {
		r.writes = append(r.writes, check.Write{Token: t, Outcome: outcome})
	}
}

func (r *record) reader(name string) *check.Reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	reader := &check.Reader{Name: name}
	r.readers = append(r.readers, reader)
	return reader
}

// history reads the table and adds what was recorded. Writers and readers have ended.
func (r *record) history(ctx context.Context, d *database) (*check.History, error) {
	h := &check.History{Writes: r.writes, Rewinds: r.rewinds}
	for _, reader := range r.readers {
		h.Readers = append(h.Readers, *reader)
	}
	c, err := d.connect(ctx, "table")
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close(ctx) }()
	h.Rows, err = readRows(ctx, c, `select id, type, subscriber, payload::text, null::timestamptz from events
		union all select id, type, subscriber, payload, deleted_at from chaos_deleted`)
	return h, err
}

func readRows(ctx context.Context, c *pgx.Conn, sql string) (list []check.Row, err error) {
	rows, err := c.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var row check.Row
		var payload []byte
		var deleted *time.Time
		if err := rows.Scan(&row.ID, &row.Type, &row.Address, &payload, &deleted); err != nil {
			return nil, err
		}
		if deleted != nil {
			row.Deleted = *deleted
		}
		if row.Token, row.Payload, err = identify(payload); err != nil {
			return nil, fmt.Errorf("row %d: %w", row.ID, err)
		}
		list = append(list, row)
	}
	return list, rows.Err()
}

// identify returns the token in a payload, and the sum of the payload in compact form.
func identify(payload []byte) (string, check.Sum, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, payload); err != nil {
		return "", check.Sum{}, err
	}
	return tokenOf(compact.Bytes()), check.SumOf(compact.Bytes()), nil
}

// tokenOf returns the token, with which every payload begins, or nothing.
func tokenOf(payload []byte) string {
	rest, ok := bytes.CutPrefix(payload, []byte(`{"token":"`))
	token, _, found := bytes.Cut(rest, []byte(`"`))
	if !ok || !found {
		return ""
	}
	return string(token)
}
