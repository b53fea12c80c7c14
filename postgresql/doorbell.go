package postgresql

import "time"

const (
	// safetyPause is how long the follower waits at most before it reads unasked. It covers a notification
	// that got lost and inserts that do not ring.
	safetyPause = time.Second
	// Busy traffic is read on a cadence instead of a ring for each commit: faster than busyRings/ringWindow
	// the doorbell is disarmed, and armed again when few of a window's reads found anything: fewer than
	// quietReads, and no more than half.
	ringWindow = 100 * time.Millisecond
	busyRings  = 10
	quietReads = 5
	// The cadence is what a read takes, times the sum of busyShare and the number of writers in flight: a
	// read stops each of them for a moment, because pg_locks takes the locks of the whole lock table. One that takes much
	// longer than the others has waited for a CPU, so what a read counts for grows slowly.
	minBusyPause = 2 * time.Millisecond
	maxBusyPause = 25 * time.Millisecond
	busyShare    = 2
	// While writers are in flight, the follower reads again soon on its own: one of them may have begun
	// before the doorbell was armed, or roll back, and neither rings.
	minGentlePause = 2 * time.Millisecond
	maxGentlePause = 50 * time.Millisecond
)

// doorbell decides when writers should ring and how long to wait if nobody does. It holds no connection:
// what it decides the follower carries out.
//
// No wake-up is lost: while armed, a writer that begins rings when it commits. Those that began before the
// arming may not, so reads keep coming until one has found no writer in flight, and then there is one more: a
// read takes the sequence's position before it looks at the writers, and misses the event of one that draws
// its id and commits in between.
type doorbell struct {
	armed bool
	// started marks that the first decision has been made.
	started bool
	// writers reports whether writers were in flight at the last read, or may have been missed by it; gentle
	// is the pause until the next one because of them.
	writers bool
	gentle  time.Duration
	// unsettled marks that no read since the arming has found no writer in flight.
	unsettled bool
	// taken marks that the lock could not be had: a writer looked at it at that moment, or somebody who is none of ours
	// holds it or queues for it, which every role that may connect can do. Then reads come on a cadence, and each is a new try.
	taken bool
	// readTakes is what a read takes, and busyPause the pause that the last one suggests for busy traffic.
	readTakes, busyPause time.Duration
	// window is when the running count of rings, of reads, and of reads that found something began.
	window              time.Time
	rings, reads, finds int
}

// refused notes that the doorbell could not be armed.
func (d *doorbell) refused() { d.armed, d.unsettled, d.taken = false, false, true }

// observe notes what a read found.
func (d *doorbell) observe(found bool, writers int, took time.Duration) {
	if slower := d.readTakes * 9 / 8; d.readTakes > 0 {
		took = min(took, slower)
	}
	d.readTakes, d.busyPause = took, time.Duration(busyShare+writers)*took
	d.writers = writers > 0 || d.unsettled
	d.unsettled = d.unsettled && writers > 0
	d.reads++
	if found {
		d.finds++
		d.gentle = 0
	}
}

// rang notes how often it has rung.
func (d *doorbell) rang(rings int) {
	d.rings += rings
	if rings > 0 {
		d.gentle = 0
	}
}

// next reports whether the doorbell is to be changed to what armed now says.
func (d *doorbell) next(now time.Time) (changed bool) {
	if !d.started {
		d.started, d.armed, d.unsettled, d.window = true, true, true, now
		return true
	}
	if d.taken {
		d.taken, d.armed, d.unsettled = false, true, true
		return true
	}
	over := now.Sub(d.window) >= ringWindow
	switch {
	case d.armed && d.rings > busyRings:
		d.armed, changed = false, true
	case !d.armed && over && d.finds < quietReads && 2*d.finds <= d.reads:
		d.armed, changed = true, true
	}
	if changed {
		d.unsettled = d.armed
	}
	if changed || over {
		d.window, d.rings, d.reads, d.finds = now, 0, 0, 0
	}
	return changed
}

// pause is how long to wait for a ring before reading unasked.
func (d *doorbell) pause() time.Duration {
	switch {
	case d.taken:
		d.gentle = min(max(2*d.gentle, minGentlePause), maxGentlePause)
		return d.gentle
	case !d.armed:
		return min(max(d.busyPause, minBusyPause), maxBusyPause)
	case d.writers:
		d.gentle = min(max(2*d.gentle, minGentlePause), maxGentlePause)
		return d.gentle
	}
	return safetyPause
}
