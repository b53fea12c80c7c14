package postgresql

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
)

// The reads ask for PostgreSQL's binary format and decode it in place, without reflection for every row.
var binaryFormat = pgx.QueryResultFormats{pgx.BinaryFormatCode}

func bigint(v []byte) int64 { return int64(binary.BigEndian.Uint64(v)) } //nolint:gosec // two's complement on the wire

func integer(v []byte) int { return int(int32(binary.BigEndian.Uint32(v))) } //nolint:gosec // two's complement on the wire

func boolean(v []byte) bool { return v[0] != 0 }

// PostgreSQL counts microseconds from the year 2000.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()

// RFC 3339 has years of four digits; what PostgreSQL can hold beyond them, infinity included, becomes the
// nearest moment that can be written.
var (
	earliest = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
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

func event(id, typ, ts, payload []byte) (*core.Event, error) {
	if len(id) != 8 || len(ts) != 8 {
		return nil, fmt.Errorf("an event's row is not in PostgreSQL's binary format")
	}
	e := &core.Event{ID: bigint(id), Type: string(typ), Timestamp: timestamp(ts)}
	if payload != nil {
		e.Payload = core.AppendCompact(make([]byte, 0, len(payload)), payload)
	}
	return e, nil
}
