package sse

import (
	"fmt"
	"net/http"
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
	control := http.NewResponseController(w)
	write := func(chunk []byte) error {
		if err := control.SetWriteDeadline(time.Now().Add(s.config.WriteTimeout)); err != nil {
			return fmt.Errorf("set a write deadline: %w", err)
		}
		n, err := w.Write(chunk)
		if err != nil {
			return err
		}
		st.wrote(n)
		return nil
	}
	var scratch scratch
	if write(s.appendRetry(nil)) != nil || control.Flush() != nil {
		return nil // the client is gone
	}
	for {
		chunk, done := st.next(&scratch)
		if len(chunk) > 0 && write(chunk) != nil || done {
			return nil
		}
		if len(chunk) > 0 {
			continue
		}
		if control.Flush() != nil {
			return nil
		}
		select {
		case <-woken:
		case <-r.Context().Done():
			return nil
		}
	}
}
