// Package check verifies, after a run, that the whole history of what was written and what was read is what
// Event Piper promises. It knows neither HTTP nor PostgreSQL, and shares no code with what it checks.
//
// It goes by the token that each payload carries, not by ids alone: after a crash PostgreSQL hands out again the
// ids of transactions that did not last.
package check

import (
	"crypto/sha256"
	"time"
)

// Outcome is what a writer knows of an event that it inserted.
type Outcome int

// An event was inserted, and its writer
const (
	// Unknown is an event whose commit was not answered: the table alone knows.
	Unknown Outcome = iota
	Committed
	RolledBack
)

// Sum stands for a payload, so that a long history fits into memory.
type Sum [16]byte

// SumOf returns the sum of a payload in the form in which it is sent: compact, else as it was written.
func SumOf(payload []byte) Sum {
	full := sha256.Sum256(payload)
	return Sum(full[:len(Sum{})])
}

// Write is an event as its writer knows it.
type Write struct {
	Token   string
	Outcome Outcome
}

// Row is an event that was committed, as the database has it, or had it.
type Row struct {
	Token         string
	ID            int64
	Address, Type string
	Payload       Sum
	// Deleted is when retention deleted it, the zero time if it is still there.
	Deleted time.Time
	// Lost is when the database lost it to a failover, the zero time if it did not.
	Lost time.Time
	// Since is when the database had become older, if the event was committed after that, else the zero time: its id may
	// have been somebody else's before.
	Since time.Time
}

// Rewind is a moment at which the database became older, as a failover to an asynchronous standby makes it.
type Rewind struct {
	At     time.Time
	Newest int64 // the newest id that was left
}

// Kind is what a message of a session says.
type Kind int

const (
	// Delivery is an event.
	Delivery Kind = iota
	// Progress moves the cursor without an event: a heartbeat's id, or the cursor of a poll's answer.
	Progress
	// Reset says that the cursor cannot be continued, and the ID where the session goes on.
	Reset
)

// Message is what a session got, in the order in which it came.
type Message struct {
	At   time.Time
	Kind Kind
	ID   int64
	// of a delivery
	Token, Type string
	Payload     Sum
	// of a reset
	Reason         string
	Oldest, Newest int64
}

// FromNow is the cursor of a session that asked for events from now on.
const FromNow int64 = -1

// Session is a stream, or one answer to a poll.
type Session struct {
	Via       string   // which way and by which server
	Server    string   // by which
	Addresses []string // whose events it asked for
	After     int64    // the cursor that it asked with
	Opened    time.Time
	Messages  []Message
}

// Reader is one client, with one cursor, through all its sessions.
type Reader struct {
	Name     string
	Sessions []Session
}

// History is all that happened.
type History struct {
	Writes  []Write
	Rows    []Row
	Rewinds []Rewind
	Readers []Reader
}
