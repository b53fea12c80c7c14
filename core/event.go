package core

import (
	"fmt"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxID is the highest id an event can have: 48 bits, so that it is exact as a JSON number in every
// language and leaves 16 bits for a namespace in PostgreSQL's 64-bit advisory lock keys.
const MaxID = 1<<48 - 1

// MaxNameLength bounds a consumer's name and an event's type, in characters. The database checks the
// same bound.
const MaxNameLength = 255

// Event is one row of the events table. It is immutable once a store has returned it and is shared by
// all sessions that deliver it.
type Event struct {
	ID        int64
	Type      string
	Timestamp time.Time
	Consumer  string
	// Payload is compact JSON: no white space between tokens, everything else as it was stored.
	Payload []byte
	// Amends is the id of the earlier event that this one amends, 0 if there is none.
	Amends int64
	// Traceparent is the W3C Trace Context that the event was inserted in, "" without one.
	Traceparent string
	// Live reports that the event was read at the live end, not from history.
	Live bool

	// shares are the formats, as bits, of which the encoding is shared and counted. It is set before sessions see
	// the event.
	shares    uint8
	weight    int // what the event is counted for while it is recent
	encodings [Formats]struct {
		once  sync.Once
		bytes []byte
	}

	// Guarded by the hub's mutex: how many pages that are held have the event, how many sessions keep the encoding, and
	// for which consumer that is counted.
	pages   int32
	keepers int32
	keeper  *tail
}

// Shares reports whether the event's encoding in a format is to be shared by all sessions that deliver it. Of
// the others nobody counts the memory.
func (e *Event) Shares(f Format) bool { return f == FormatPayload || e.shares&(1<<f) != 0 }

// Encoded returns what encode makes of the event, made once for all sessions that deliver it in a format. Every
// caller must pass the same encoding.
func (e *Event) Encoded(f Format, encode func(*Event) []byte) []byte {
	encoding := &e.encodings[f]
	encoding.once.Do(func() { encoding.bytes = encode(e) })
	return encoding.bytes
}

// CheckName reports why name can be neither a consumer nor an event's type: empty, longer than
// [MaxNameLength], not UTF-8, or with control characters, which would forge fields of a Server-Sent
// Event or of a log line.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("is empty")
	case !utf8.ValidString(name):
		return fmt.Errorf("is not UTF-8")
	case utf8.RuneCountInString(name) > MaxNameLength:
		return fmt.Errorf("is longer than %d characters", MaxNameLength)
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return fmt.Errorf("contains a control character")
		}
	}
	return nil
}
