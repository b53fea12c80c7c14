package core

import "time"

// Mark tells the event at a position from another that comes to have its id: a failover to a standby that had not got all
// hands ids out again.
type Mark struct {
	ID int64
	// Stamp is something of the event that never changes. Only its store knows what.
	Stamp int64
}

// Standing is where a table stands, and how that fits what was known of it.
type Standing struct {
	// Newest is the newest position. Its event may not be there any more, which its stamp does not tell.
	Newest Mark
	// Kept is the highest of the known marks whose event is there still, or was deleted by retention; 0 if there is none.
	Kept int64
}

// marks are some of the positions that a hub has read to, in ascending order: the last, and of those before it the fewer
// the longer ago they were read. Their number grows with the logarithm of time, to some hundreds after years.
type marks []dated

type dated struct {
	Mark
	read time.Time
}

const (
	// markGap and markShare bound how close the marks are that are kept: by time, and by a part of their age.
	markGap   = 100 * time.Millisecond
	markShare = 8
)

// last is the highest mark, the zero Mark if there is none.
func (m marks) last() Mark {
	if len(m) == 0 {
		return Mark{}
	}
	return m[len(m)-1].Mark
}

// add notes that a position has been read to.
func (m *marks) add(mark Mark, now time.Time) {
	if mark.ID <= m.last().ID {
		return
	}
	all := append(*m, dated{mark, now})
	kept := all[:0]
	for i, d := range all {
		between := i > 0 && i < len(all)-1
		if between && all[i+1].read.Sub(kept[len(kept)-1].read) < max(markGap, now.Sub(d.read)/markShare) {
			continue
		}
		kept = append(kept, d)
	}
	*m = kept
}

// known is the position that has been read to, with the stamp of its event if that was the last that was read.
func (h *Hub) known() Mark {
	if last := h.marks.last(); last.ID == h.position {
		return last
	}
	return Mark{ID: h.position}
}

// list returns the marks for a question to a store.
func (m marks) list() []Mark {
	list := make([]Mark, len(m))
	for i, d := range m {
		list[i] = d.Mark
	}
	return list
}

// cut forgets the marks above a position.
func (m *marks) cut(position int64) {
	for len(*m) > 0 && m.last().ID > position {
		*m = (*m)[:len(*m)-1]
	}
}

// doubtful is for how long a cursor counts as one of before a loss if it lies where something was lost: for as long as a
// poll that was answered before may take to be followed by the next.
const doubtful = 5 * time.Minute

// loss is what the database lost of what was read: the positions after one and through another, which may be those of
// other events by now.
type loss struct {
	after, through int64
	newest         int64 // the newest position when it was noticed
	noticed        time.Time
}

// hits reports that what led to a cursor may be lost. One that its consumer has been given since is not to be asked about. The
// newest position is most likely one that was given since: it is what every reset leads to.
func (l loss) hits(cursor int64, now time.Time) bool {
	return cursor > l.after && cursor <= l.through && cursor != l.newest && now.Sub(l.noticed) < doubtful
}
