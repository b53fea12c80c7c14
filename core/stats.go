package core

// Stats is what a hub has done since it was made, and what it holds now.
type Stats struct {
	Status

	// Sessions is how many sessions are open, Polls how many of them belong to polls.
	Sessions, Polls int
	// SessionLimit is how many may be open.
	SessionLimit int
	// PagesWaiting is how many sessions wait for a page of history that nobody reads yet.
	PagesWaiting int
	// TailBytes estimates the memory that the recent events take, BufferBytes what waits for clients.
	TailBytes, BufferBytes int

	Counters
}

// Counters only ever grow.
type Counters struct {
	// Connections counts the times the hub began to follow its store.
	Connections int64
	// Reads counts the reads of the live end, EventsRead the events that they brought.
	Reads, EventsRead int64
	// Wakes counts the sessions woken for events of the live end, each time anew.
	Wakes int64
	// Replays counts the times a session turned from memory to history, Pages and PageEvents what was read
	// for it, PageFailures the reads of history that failed.
	Replays, Pages, PageEvents, PageFailures int64
	// ResetsAhead, ResetsPruned and ResetsOversized count the cursors that could not be continued.
	ResetsAhead, ResetsPruned, ResetsOversized int64
	// PollEvents counts the events that polls were answered with, PollBytes the bytes of their payloads.
	PollEvents, PollBytes int64
	// RefusedSessions and RefusedSessionsOfConsumer count the sessions not opened for either limit.
	RefusedSessions, RefusedSessionsOfConsumer int64
	// Overfull counts the polls and streams that ended because the buffer was full.
	Overfull int64
}

// reset counts a cursor that could not be continued.
func (c *Counters) reset(reason Reason) {
	switch reason {
	case Ahead:
		c.ResetsAhead++
	case Pruned:
		c.ResetsPruned++
	case Oversized:
		c.ResetsOversized++
	}
}

// Stats returns all numbers as of one moment.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Stats{
		Status: h.status, Counters: h.counters,
		Sessions: h.sessions, SessionLimit: h.limits.Sessions, Polls: h.polls,
		PagesWaiting: len(h.pager.queue), TailBytes: h.bytes, BufferBytes: h.buffer.held,
	}
	s.Position = h.position
	return s
}

// beginPoll counts a poll that has a session; the caller must end it with what it answers.
func (h *Hub) beginPoll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.polls++
}

func (h *Hub) endPoll(answer *Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.polls--
	h.counters.PollEvents += int64(len(answer.Events))
	for _, e := range answer.Events {
		h.counters.PollBytes += int64(len(e.Payload))
	}
}
