package core

import "errors"

var (
	// ErrBufferFull reports that this instance holds as much as it may of what clients have not received.
	ErrBufferFull = errors.New("too much waits for slow clients")
	// ErrBufferFullOfConsumer reports that the consumer's clients have left as much unread as they may.
	ErrBufferFullOfConsumer = errors.New("too much waits for slow clients of this consumer")
)

const (
	// defaultBuffer is the limit of a buffer that has none.
	defaultBuffer = 64 << 20
	// bufferShare is the part of the buffer that one consumer may take for pages, and for what its readers keep: a
	// quarter each.
	bufferShare = 4
)

// buffer counts the bytes that an instance holds between the read of the table and the socket: pages of
// history, what streams could not write, and the answers of polls until they are sent. The recent events are
// not among them; they have a bound of their own. What is being read is not known yet and comes on top: at
// most one read by each reader of history. The hub's mutex guards it.
type buffer struct {
	limit int
	held  int
	freed func() // called when something was let go
}

// keep counts n more bytes that a consumer's readers keep, or fewer if n is negative.
func (b *buffer) keep(owner *tail, n int) {
	owner.kept += n
	b.add(n)
}

func (b *buffer) add(n int) {
	b.held += n
	if n < 0 {
		b.freed()
	}
}

// room reports whether more history may be read for a consumer: nil, ErrBufferFullOfConsumer or ErrBufferFull.
// A quarter of the buffer stays free of history, for the streams that stall meanwhile.
func (b *buffer) room(owner *tail) error {
	switch {
	case b.full():
		return ErrBufferFull
	case owner.read >= b.limit/bufferShare || owner.kept >= b.limit/bufferShare:
		return ErrBufferFullOfConsumer
	}
	return nil
}

// full reports that no more history may be read, for nobody.
func (b *buffer) full() bool { return b.held >= b.limit-b.limit/4 }

// fits reports whether n more bytes of what was read may be kept for a consumer. One that keeps nothing yet may
// keep an event of any size, as otherwise it would never get it.
func (b *buffer) fits(owner *tail, n int) error {
	switch {
	case n <= 0:
		return nil
	case b.held > 0 && b.held+n > b.limit:
		return ErrBufferFull
	case owner.kept > 0 && owner.kept+n > b.limit/bufferShare:
		return ErrBufferFullOfConsumer
	}
	return nil
}

// pin counts an event's encoding, once for all sessions that keep it.
func (b *buffer) pin(e *Event, owner *tail) {
	if e.keepers++; e.keepers == 1 {
		e.keeper = owner
		b.keep(owner, len(e.Payload))
	}
}

// unpin takes one pin back.
func (b *buffer) unpin(e *Event) {
	if e.keepers--; e.keepers == 0 {
		b.keep(e.keeper, -len(e.Payload))
		e.keeper = nil
	}
}

// hold counts a page for one more session. Sessions that asked for the same page share it. Pages of several consumers
// may share events: these count once in all, and for each consumer.
func (b *buffer) hold(page *Page) {
	if page.holders++; page.holders > 1 {
		return
	}
	n := 0
	for _, e := range page.Events {
		page.bytes += weight(e)
		if e.pages++; e.pages == 1 {
			n += weight(e)
		}
	}
	page.owner.read += page.bytes
	b.add(n)
}

// release lets a session's part of a page go, if there is one.
func (b *buffer) release(page *Page) {
	if page == nil {
		return
	}
	if page.holders--; page.holders > 0 {
		return
	}
	n := 0
	for _, e := range page.Events {
		if e.pages--; e.pages == 0 {
			n += weight(e)
		}
	}
	page.owner.read -= page.bytes
	b.add(-n)
}

// weight estimates the memory that an event takes with its encoding.
func weight(e *Event) int { return 256 + cap(e.Payload) + len(e.Payload) }
