package core

import "context"

// Store is what the hub needs of the table of events. An implementation must pass coretest.TestStore.
//
// Every method that reads promises order: once a read has been answered with a position, no event at or
// below that position becomes visible to a later read.
type Store interface {
	// Pages reads history for many readers at once. It answers a prefix of the queries, at least one; what it
	// leaves out, because the payloads of the others already are as large as it takes at a time, is to be asked
	// again. Known is a position that a follower has read to, or none: what was settled then is not withheld now, and
	// history may end there. Without the event that was there, if it has a stamp, the error is ErrReplaced. One that is
	// ErrUnreadable is the fault of some of the queries: others can be answered. Pages may have events in common.
	Pages(ctx context.Context, queries []PageQuery, known Mark) ([]Page, error)

	// Follow connects to the live end. An event committed after Follow has returned ends a later Wait.
	Follow(ctx context.Context) (Follower, error)
}

// PageQuery asks for up to Limit events of some addresses after a cursor.
type PageQuery struct {
	// Addresses are whose events are asked for; there is at least one.
	Addresses []string
	After     int64
	// Types are the types that are asked for. A page may end before its limit, and without any event, when
	// many others had to be looked at.
	Types Types
	// Current leaves out the events that a later event of the same address amends, among those that are settled.
	// A page may end before its limit because of it.
	Current bool
	Limit   int
}

// Page answers a PageQuery.
type Page struct {
	Events []*Event
	// Next is the cursor to go on from. It moves past what was for others.
	Next int64
	// More reports that there is another page right now.
	More bool
	// Newest is the newest position.
	Newest int64
	// Pruned is how far retention has deleted of the events of these addresses.
	Pruned int64
	// Ahead reports that the cursor is beyond every id drawn so far.
	Ahead bool
	// Oversized is the id of an event that is larger than what is delivered, if nothing comes before it; else 0.
	Oversized int64

	// Guarded by the hub's mutex: what the page is counted for, for whom, and how many sessions have it.
	bytes   int
	owner   *tail
	holders int
}

// Reset returns why the page's query cannot be continued, or nil if it can.
func (p *Page) Reset(q PageQuery) *ResetError {
	switch {
	case p.Ahead:
		return &ResetError{Reason: Ahead, Oldest: p.Pruned, Newest: p.Newest}
	case p.Pruned > q.After:
		return &ResetError{Reason: Pruned, Oldest: p.Pruned, Newest: p.Newest}
	case p.Oversized != 0:
		return &ResetError{Reason: Oversized, Oldest: p.Oversized, Newest: p.Newest}
	}
	return nil
}

// Follower reads the live end over one connection. It is used by one goroutine; after an error other than
// ErrUnreadable only Close may be called.
type Follower interface {
	// Look tells where the table stands, and how much of what was read is there still, by its marks.
	Look(ctx context.Context, known []Mark) (Standing, error)

	// Read returns the events after a position: those of the given addresses with their payloads, except large
	// ones, or, if addresses is nil, those of all addresses without.
	Read(ctx context.Context, after int64, addresses []string) (Read, error)

	// FillPayloads reads the payloads of the events that have none, in order, and reports how far it got: at
	// least past the first, bounded like a page. An event deleted meanwhile is left without, and one so large
	// that its transfer would keep others waiting: that is for Pages.
	FillPayloads(ctx context.Context, events []*Event) (int, error)

	// Wait returns when another Read may find something, soon after hurried has ended, and after about a second at the
	// latest. Hurried ends with ctx, if not before.
	Wait(ctx, hurried context.Context) error

	Close()
}

// Read is what a follower found after a position.
type Read struct {
	Events []*Event
	// Position is where the read ended: at or just below the id of a committed event, or where it began. No
	// event that was asked for is missing up to it.
	Position int64
	// Mark is that of the last event, whoever it is for, if the position moved.
	Mark Mark
	// More reports that the read was cut short: there may be more right now.
	More bool
	// Sequence is the highest id drawn so far. It is below an earlier position only if the database was
	// replaced, by a restore for example.
	Sequence int64
	// Watermark is the highest id at or below which nothing can appear any more.
	Watermark int64
	// Writers counts the transactions in flight that have inserted events.
	Writers int
	// OldestWriter is the process id of the one that holds the watermark back, 0 for a prepared transaction.
	OldestWriter int
}
