// Package core is the domain of Event Piper: events on their way from a table to the readers they are
// addressed to. It knows neither PostgreSQL nor HTTP and imports only the standard library.
//
// # A row's way to its readers
//
//	store ── Follower: everything after my position ──▶ Hub ── tail of each consumer ──▶ wakes its sessions
//	store ── Pages: history, for many sessions at once ──────▶ pager ─────────────────▶ a session that is behind
//	                                                     Session.Take ◀── SSE: a loop of it; Poll: one turn of it
//
// A [Hub] follows a [Store] with one [Follower] for all readers of an instance (follow.go). It reads every
// event once, appends it to the tail of its consumer (tail.go), and wakes the sessions of that consumer. A
// [Session] is a cursor (session.go): it takes what follows the cursor from the tail, or, when the cursor is
// older than the tail, from history (history.go, read by pager.go, counted by buffer.go). Neither replay nor a slow reader has a queue.
//
// A process that serves one request at a time has no hub: [Direct] answers polls over one [Connection] (direct.go).
//
// # Guarantees
//
//   - An event's id is a position: once a reader has been given id N, nothing at or below N appears later.
//     The store's watermark sees to it.
//   - One session delivers every committed event of its consumer after its cursor exactly once, in
//     ascending order of ids. Across sessions the reader's cursor decides: at least once.
//   - A cursor that cannot be continued without a gap is answered with a [ResetError], never silently.
//   - Memory is bounded by [Limits]: by the number of sessions, the bytes of the tails, and the buffer: pages of
//     history from when they are read until they are written, what streams could not write, and the answers of
//     polls. One consumer takes a quarter of it at most, or one event. On top come what is being read, one read
//     for each reader of history, and the kernel's socket buffers. An empty tail lingers for a minute or two.
//
// # Who may import what
//
// Package core imports only the standard library. Packages core/sse, openapi and postgresql import core and
// do not import one another; cmd and functions put them together. A test enforces it.
package core
