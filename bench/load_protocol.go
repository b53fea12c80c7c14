//go:build linux

package main

import "time"

// The load generator is a process of its own, so that its share of the machine can be told apart from the
// server's. It is this program again, started with the argument "load": it takes one order after another as
// lines of JSON on its standard input and answers each on its standard output when it has been carried out.
type order struct {
	Do    string // "open", "await", "report" or "close"
	Group int    // the connections it is about; groups are numbered by whoever gives the orders

	// For open.
	Kind      kind
	Address   string // host:port
	Path      string
	Sessions  int
	Consumers int    // the sessions are spread over that many
	Consumer  string // followed by a number from 0 to Consumers-1
	// Topics are granted to each of them, and so followed; "#" in it is the consumer's number.
	Topics string
	// Cursor is where they begin, -1 for now.
	Cursor int64
	// Resume opens the connections of a group again, after the server has ended all of them, with the cursors
	// they have come to.
	Resume bool
	// Dialing bounds the connections that are being opened at the same time.
	Dialing int

	// For await: return when every connection has an event with this id or a higher one, and when the group
	// has so many events since it was opened.
	ID     int64
	Events int64
	// Within bounds an open or an await.
	Within time.Duration
}

type kind string

const (
	sse   kind = "sse"   // GET /events
	poll  kind = "poll"  // GET /events/poll, again and again
	nchan kind = "nchan" // an EventSource of nchan, whose ids are not ours
	// nchanPoll is nchan's long-poll, again and again; where a connection has come to is in headers of its answers.
	nchanPoll kind = "nchan-poll"
)

// polls reports whether a connection asks anew for each answer.
func (k kind) polls() bool { return k == poll || k == nchanPoll }

// answer is how an order ended and what a group has seen since its last report.
type answer struct {
	Error string
	Open  int // connections that are open
	// Behind counts the connections that have no event yet with the id that was awaited last.
	Behind int
	// TotalEvents counts since the group was opened, what follows since the last report.
	TotalEvents int64
	Counts
	Latency histogram
	// CPU is the load generator's own in all.
	CPU time.Duration
}

// Counts are what a group has received.
type Counts struct {
	Events, Bytes, Heartbeats, Resets, Answers int64
	// Disorder counts the ids that were not above the one before.
	Disorder int64
	// Closed counts the connections that the server has ended.
	Closed int64
}
