// The model of order of guarantees.md, for `make spec`: two transactions that draw ids and a reader, one step at a time in every
// order. Nothing at or below a delivered watermark appears later; eight variants, with a step taken at another time, break that.
//
// What it leaves to PostgreSQL: a step is atomic, each look has a snapshot of its own, and a lock is let go of after the commit
// is visible. The last is one of the steps below, so that it is seen to matter.
module order

open util/ordering[Position] as positions

// A position of the sequence: the first is before any id, and each other is also the id that is drawn there.
sig Position {}

one sig Sequence { var at: one Position }
one sig Table { var visible: set Position }

enum Step { ReadKey, Lock, Draw, Show, Release, ReadPosition, ReadLocks, ReadRows }

sig Transaction {
	var taken: set Step,
	var key, held: lone Position, // the key that it read, and the lock that it holds
	var ids: set Position,
}

one sig Reader {
	var looked: set Step,
	var position, lowest: lone Position, // lowest is none if it saw no lock
	var rows: set Position,
	var cursor: one Position,
	var delivered: set Position,
}

fun inTransaction: Step -> Step { ReadKey -> Lock + Lock -> Draw + Draw -> Show + Show -> Release }
fun inRead: Step -> Step { ReadPosition -> ReadLocks + ReadLocks -> ReadRows }

// What a step leaves alone.

pred waits[t: Transaction] { t.taken' = t.taken and t.key' = t.key and t.held' = t.held and t.ids' = t.ids }
pred tableWaits { at' = at and visible' = visible }
pred readerWaits { looked' = looked and position' = position and lowest' = lowest and rows' = rows and cursor' = cursor and delivered' = delivered }
pred writersWait { tableWaits and all t: Transaction | waits[t] }

// A transaction.

pred take[order: Step -> Step, t: Transaction, s: Step] {
	s not in t.taken and order.s in t.taken
	t.taken' = t.taken + s
	all other: Transaction - t | waits[other]
	readerWaits
}

pred readKey[order: Step -> Step, t: Transaction] {
	take[order, t, ReadKey]
	t.key' = Sequence.at and t.held' = t.held and t.ids' = t.ids and tableWaits
}

pred lock[order: Step -> Step, t: Transaction] {
	take[order, t, Lock]
	t.held' = t.key and t.key' = t.key and t.ids' = t.ids and tableWaits
}

// It may draw more than one id.
pred draw[order: Step -> Step, t: Transaction] {
	take[order, t, Draw] or {
		Draw in t.taken and Show not in t.taken
		t.taken' = t.taken and readerWaits
		all other: Transaction - t | waits[other]
	}
	some Sequence.at.next
	Sequence.at' = Sequence.at.next and t.ids' = t.ids + Sequence.at.next
	t.key' = t.key and t.held' = t.held and visible' = visible
}

pred show[order: Step -> Step, t: Transaction] {
	take[order, t, Show]
	Table.visible' = Table.visible + t.ids
	t.key' = t.key and t.held' = t.held and t.ids' = t.ids and at' = at
}

pred release[order: Step -> Step, t: Transaction] {
	take[order, t, Release]
	no t.held' and t.key' = t.key and t.ids' = t.ids and tableWaits
}

// A rollback shows nothing.
pred rollback[t: Transaction] {
	Draw in t.taken and no t.taken & (Show + Release)
	t.taken' = t.taken + Show + Release and no t.held' and t.key' = t.key and t.ids' = t.ids
	all other: Transaction - t | waits[other]
	readerWaits and tableWaits
}

// A read.

pred look[order: Step -> Step, s: Step] {
	s not in Reader.looked and order.s in Reader.looked
	Reader.looked' = Reader.looked + s
	Reader.position' = (s = ReadPosition implies Sequence.at else Reader.position)
	Reader.lowest' = (s = ReadLocks implies positions/min[Transaction.held] else Reader.lowest)
	Reader.rows' = (s = ReadRows implies Table.visible else Reader.rows)
	cursor' = cursor and delivered' = delivered and writersWait
}

// It ends with what is after the cursor, up to the watermark, which becomes the cursor.
pred deliver {
	Reader.looked = ReadPosition + ReadLocks + ReadRows
	let watermark = positions/min[Reader.(position + lowest)] {
		Reader.delivered' = Reader.delivered + (Reader.rows & Reader.cursor.nexts & watermark.*prev)
		Reader.cursor' = positions/max[Reader.cursor + watermark]
	}
	no looked' and no position' and no lowest' and no rows' and writersWait
}

// One thing after the other, until nothing happens any more.
pred happens[order: Step -> Step] {
	Sequence.at = first and no visible
	no taken and no key and no held and no ids
	no looked and no position and no lowest and no rows and no delivered and Reader.cursor = first
	always {
		deliver or (some s: ReadPosition + ReadLocks + ReadRows | look[order, s])
		or (some t: Transaction | readKey[order, t] or lock[order, t] or draw[order, t] or show[order, t] or release[order, t] or rollback[t])
		or (always (readerWaits and writersWait))
	}
}

// Whatever is visible at or below the cursor was delivered.
pred kept { always Table.visible & Reader.cursor.*prev in Reader.delivered }

Order: check { happens[inTransaction + inRead] implies kept } for exactly 3 Position, 2 Transaction, 15..15 steps expect 0

// It is no model in which nothing happens.
AllArrives: run { happens[inTransaction + inRead] and eventually Reader.delivered = Position - first } for exactly 3 Position, exactly 2 Transaction, 15..15 steps expect 1
RollbackLetsGo: run { happens[inTransaction + inRead] and eventually Reader.delivered = last } for exactly 3 Position, exactly 2 Transaction, 15..15 steps expect 1

// Variants that lose an event: all other orders of a read, and three of a transaction.
LocksFirst: check { happens[inTransaction + ReadLocks -> ReadPosition + ReadPosition -> ReadRows] implies kept } for exactly 3 Position, 2 Transaction, 12..12 steps expect 1
RowsSecond: check { happens[inTransaction + ReadPosition -> ReadRows + ReadRows -> ReadLocks] implies kept } for exactly 3 Position, 2 Transaction, 12..12 steps expect 1
RowsFirst: check { happens[inTransaction + ReadRows -> ReadPosition + ReadPosition -> ReadLocks] implies kept } for exactly 3 Position, 2 Transaction, 12..12 steps expect 1
LocksThenRows: check { happens[inTransaction + ReadLocks -> ReadRows + ReadRows -> ReadPosition] implies kept } for exactly 3 Position, 2 Transaction, 12..12 steps expect 1
RowsThenLocks: check { happens[inTransaction + ReadRows -> ReadLocks + ReadLocks -> ReadPosition] implies kept } for exactly 3 Position, 2 Transaction, 12..12 steps expect 1
DrawFirst: check { happens[inRead + Draw -> ReadKey + ReadKey -> Lock + Lock -> Show + Show -> Release] implies kept } for exactly 3 Position, 2 Transaction, 12..12 steps expect 1
LockAfterDraw: check { happens[inRead + ReadKey -> Draw + Draw -> Lock + Lock -> Show + Show -> Release] implies kept } for exactly 3 Position, 2 Transaction, 12..12 steps expect 1
ReleaseFirst: check { happens[inRead + ReadKey -> Lock + Lock -> Draw + Draw -> Release + Release -> Show] implies kept } for exactly 3 Position, 2 Transaction, 12..12 steps expect 1
