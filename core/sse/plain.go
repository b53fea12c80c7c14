package sse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
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

// write writes the stream until it is over, the client is gone, or a write fails.
func (st *stream) write(ctx context.Context, w http.ResponseWriter, woken <-chan struct{}) error {
	control := http.NewResponseController(w)
	stalls := time.AfterFunc(discardAfter, st.session.Discard) // nobody knows when the client reads on
	defer stalls.Stop()
	chunk, done := st.first(nil), false
	for {
		var scratch scratch // not kept while the stream is idle
		for len(chunk) > 0 {
			if err := control.SetWriteDeadline(time.Now().Add(st.server.config.WriteTimeout)); err != nil {
				return fmt.Errorf("set a write deadline: %w", err)
			}
			stalls.Reset(discardAfter)
			n, err := w.Write(chunk)
			stalls.Stop()
			st.wrote(n)
			if err != nil {
				return err
			}
			if chunk = nil; !done {
				chunk, done = st.next(&scratch)
			}
		}
		stalls.Reset(discardAfter)
		err := control.Flush()
		stalls.Stop()
		if err != nil {
			return err
		}
		// Over HTTP/2 a deadline ends the stream when it passes, whether something is being written or not, and over
		// HTTP/1.1 it would be there for the connection's next answer.
		if err := control.SetWriteDeadline(time.Time{}); err != nil {
			return fmt.Errorf("clear the write deadline: %w", err)
		}
		if done {
			return nil
		}
		select {
		case <-woken:
			chunk, done = st.next(&scratch)
		case <-ctx.Done():
			return nil
		}
	}
}
