package sse

import (
	"sync"
	"time"
)

// wheel signals each stream when it is due: for a heartbeat, at its token's expiry, or because its client
// has stopped reading. A stream that was active meanwhile just moves on, so activity costs the wheel nothing. A timer for each
// stream would be simpler, and was tried: it takes 0.2 to 0.5 KB more of memory for each, and a third more CPU for heartbeats.
type wheel struct {
	server *Server
	tick   int64 // nanoseconds between two slots
	stop   chan struct{}
	done   chan struct{}

	mu      sync.Mutex
	slots   [256][]*stream // guarded by mu, a ring
	current int64          // guarded by mu; the number of ticks gone by
}

// slot is a stream's place in the wheel; index counts from 1, so that 0 is no place.
type slot struct{ slot, index int32 }

func newWheel(s *Server) *wheel {
	tick := min(max(s.config.Heartbeat/100, 5*time.Millisecond), 100*time.Millisecond)
	w := &wheel{server: s, tick: int64(tick), stop: make(chan struct{}), done: make(chan struct{})}
	w.current = s.now() / w.tick
	go w.run()
	return w
}

func (w *wheel) close() {
	close(w.stop)
	<-w.done
}

func (w *wheel) run() {
	defer close(w.done)
	ticker := time.NewTicker(time.Duration(w.tick))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.turn(w.server.now())
		case <-w.stop:
			return
		}
	}
}

// turn visits the slots whose time has come.
func (w *wheel) turn(now int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ; (w.current+1)*w.tick <= now; w.current++ {
		at := &w.slots[w.current%int64(len(w.slots))]
		visit := *at
		*at = nil
		for _, st := range visit {
			due := st.due()
			if due <= now {
				st.signal() // and see at the next tick when it is due again
			}
			w.place(st, due, w.current+1)
		}
	}
}

// add takes a stream in.
func (w *wheel) add(st *stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.place(st, st.due(), w.current)
}

// place puts a stream into the slot that is visited after due, no earlier than slot number from.
func (w *wheel) place(st *stream, due, from int64) {
	n := min(max(due/w.tick, from), from+int64(len(w.slots))-1) % int64(len(w.slots))
	w.slots[n] = append(w.slots[n], st)
	st.slot = slot{int32(n), int32(len(w.slots[n]))} //nolint:gosec // at most as many as there are streams
}

// remove lets a stream go.
func (w *wheel) remove(st *stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.slots[st.slot.slot]
	last := list[len(list)-1]
	list[st.slot.index-1] = last
	last.slot.index = st.slot.index
	list[len(list)-1] = nil
	w.slots[st.slot.slot] = list[:len(list)-1]
}
