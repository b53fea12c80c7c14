package sse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// servePlain writes a stream from its handler's goroutine, as HTTP/2 and TLS need it.
func (s *Server) servePlain(w http.ResponseWriter, r *http.Request, a ask) error {
	woken := make(chan struct{}, 1)
	st := &stream{signal: func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	}}
	if err := s.start(st, a); err != nil {
		return err
	}
	defer s.end(st)
	if err := st.write(r.Context(), w, woken); errors.Is(err, os.ErrDeadlineExceeded) {
		s.stats.Stalled.Add(1)
	}
	return nil // any other error says that the client is gone
}

// countAfter is how long a write of a handler may take before what it has in hand counts as what waits for its
// client. Most end long before.
const countAfter = 50 * time.Millisecond

// write writes the stream until it is over, the client is gone, or a write fails.
func (st *stream) write(ctx context.Context, w http.ResponseWriter, woken <-chan struct{}) error {
	blocked := newBlocked(st, http.NewResponseController(w))
	defer blocked.stop()
	var own scratch
	chunk, done := st.first(nil), false
	for {
		for len(chunk) > 0 {
			if err := blocked.begin(len(chunk), &own); err != nil {
				return err
			}
			n, err := w.Write(chunk)
			blocked.end()
			st.wrote(n)
			if err != nil {
				return err
			}
			if chunk = nil; !done {
				chunk, done = st.next(&own)
			}
		}
		if err := blocked.begin(0, &own); err != nil {
			return err
		}
		err := blocked.control.Flush()
		blocked.end()
		if err != nil {
			return err
		}
		// Over HTTP/2 a deadline ends the stream when it passes, whether something is being written or not, and over
		// HTTP/1.1 it would be there for the connection's next answer.
		if err := blocked.control.SetWriteDeadline(time.Time{}); err != nil {
			return fmt.Errorf("clear the write deadline: %w", err)
		}
		if done {
			return nil
		}
		own = scratch{} // not kept while the stream is idle
		select {
		case <-woken:
			chunk, done = st.next(&own)
		case <-ctx.Done():
			return nil
		}
	}
}

// blocked does what is due while a handler's write takes long.
type blocked struct {
	// Set at construction.
	stream  *stream
	control *http.ResponseController
	counts  *time.Timer // calls count
	stalls  *time.Timer // calls the session's Discard

	mu sync.Mutex
	// Guarded by mu.
	writing bool
	bytes   int
	scratch *scratch
}

func newBlocked(st *stream, control *http.ResponseController) *blocked {
	b := &blocked{stream: st, control: control}
	b.counts = time.AfterFunc(countAfter, b.count)
	b.stalls = time.AfterFunc(discardAfter, st.session.Discard) // nobody knows when the client reads on
	b.stop()
	return b
}

// begin notes that n bytes are about to be written, which may block, and sets the deadline for it.
func (b *blocked) begin(n int, scratch *scratch) error {
	if err := b.control.SetWriteDeadline(time.Now().Add(b.stream.server.config.WriteTimeout)); err != nil {
		return fmt.Errorf("set a write deadline: %w", err)
	}
	b.mu.Lock()
	b.writing, b.bytes, b.scratch = true, n, scratch
	b.mu.Unlock()
	b.counts.Reset(countAfter)
	b.stalls.Reset(discardAfter)
	return nil
}

// end notes that the write is over. Afterwards the session is the handler's alone again.
func (b *blocked) end() {
	b.stop()
	b.mu.Lock()
	b.writing, b.scratch = false, nil
	b.mu.Unlock()
}

func (b *blocked) stop() {
	b.counts.Stop()
	b.stalls.Stop()
}

// count counts what is being written, and ends the write if that is more than may wait.
func (b *blocked) count() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.writing && b.stream.kept(b.bytes, b.scratch) != nil {
		_ = b.control.SetWriteDeadline(time.Now()) // its client comes back for what it could not take
	}
}
