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
	// Live reports that the event was read at the live end, not from history.
	Live bool

	encodeOnce sync.Once
	encoded    []byte

	// Guarded by the hub's mutex: how many sessions keep the encoding, and for which consumer it is counted.
	keepers int32
	keeper  *tail
}

// Encoded returns what encode makes of the event, made once for all sessions that deliver it. Every
// caller must pass the same encoding.
func (e *Event) Encoded(encode func(*Event) []byte) []byte {
	e.encodeOnce.Do(func() { e.encoded = encode(e) })
	return e.encoded
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
