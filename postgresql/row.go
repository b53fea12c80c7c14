package postgresql

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/event-piper/event-piper/core"
)

// Rows come in PostgreSQL's binary format. What there are many of is decoded in place, without reflection.

func bigint(v []byte) int64 { return int64(binary.BigEndian.Uint64(v)) } //nolint:gosec // two's complement on the wire

// PostgreSQL counts microseconds from the year 2000.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()

// RFC 3339 has years of four digits, and many clients know no year 0; what PostgreSQL can hold beyond them, infinity included, becomes the
// nearest moment that can be written.
var (
	earliest = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
)

func timestamp(v []byte) time.Time {
	us := bigint(v)
	t := time.Unix(epoch+us/1e6, us%1e6*1000).UTC()
	switch {
	case t.After(latest):
		return latest
	case t.Before(earliest):
		return earliest
	}
	return t
}

// decoder makes events of rows. What it makes in one go is kept in one go: it is for the rows of a page,
// which are delivered and forgotten together.
type decoder struct {
	events   []core.Event
	payloads []byte
	typ      string
}

const (
	decoderEvents = 128
	decoderBytes  = 32 << 10
)

func (d *decoder) event(id, typ, ts, payload, amends, traceparent []byte) (*core.Event, error) {
	if len(d.events) == cap(d.events) {
		d.events = make([]core.Event, 0, decoderEvents)
	}
	if cap(d.payloads)-len(d.payloads) < len(payload) {
		d.payloads = make([]byte, 0, max(decoderBytes, len(payload)))
	}
	if d.typ != string(typ) {
		d.typ = string(typ)
	}
	d.events = d.events[:len(d.events)+1]
	e := &d.events[len(d.events)-1]
	if err := decode(e, id, ts, amends, traceparent); err != nil {
		return nil, err
	}
	e.Type = d.typ
	if payload != nil {
		if len(payload) >= decoderBytes {
			e.Payload = compact(payload)
			return e, nil
		}
		start := len(d.payloads)
		d.payloads = core.AppendCompact(d.payloads, payload)
		e.Payload = d.payloads[start:len(d.payloads):len(d.payloads)]
	}
	return e, nil
}

// event makes one event that is kept by itself.
func event(id, typ, ts, payload, amends, traceparent []byte) (*core.Event, error) {
	e := &core.Event{Type: string(typ)}
	if err := decode(e, id, ts, amends, traceparent); err != nil {
		return nil, err
	}
	if payload != nil {
		e.Payload = compact(payload)
	}
	return e, nil
}

// compact returns a payload without white space, in memory of its own that is hardly larger than it.
func compact(payload []byte) []byte {
	b := core.AppendCompact(make([]byte, 0, len(payload)), payload)
	if len(b) < cap(b)-cap(b)/8 {
		return bytes.Clone(b)
	}
	return b
}

func byID(a, b *core.Event) int { return cmp.Compare(a.ID, b.ID) }

func decode(e *core.Event, id, ts, amends, traceparent []byte) error {
	if len(id) != 8 || len(ts) != 8 || len(amends)%8 != 0 {
		return fmt.Errorf("%w: its row is not in PostgreSQL's binary format", core.ErrUnreadable)
	}
	e.ID, e.Timestamp = bigint(id), timestamp(ts)
	// Neither is checked at insert. What cannot be an earlier event amends nothing.
	if len(amends) > 0 && bigint(amends) > 0 && bigint(amends) < e.ID {
		e.Amends = bigint(amends)
	}
	if core.IsTraceparent(traceparent) {
		e.Traceparent = string(traceparent)
	}
	return nil
}
