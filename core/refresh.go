package core

import (
	"context"
	"time"
)

// refreshTimeout bounds Refresh, for a database that does not answer.
const refreshTimeout = time.Second

// Refresh returns once a read of the live end that began after the call has got to its end, so that the hub knows of all
// that was committed before the call. A ring takes a millisecond or two, in which who has just inserted an event would ask
// for it in vain. While the store is not followed there is nothing to wait for. All who ask meanwhile share a read.
func (h *Hub) Refresh(ctx context.Context) {
	h.mu.Lock()
	if !h.status.Following {
		h.mu.Unlock()
		return
	}
	if h.asked == nil {
		h.asked = make(chan struct{})
	}
	asked := h.asked
	h.hurry()
	h.mu.Unlock()
	timeout := time.NewTimer(refreshTimeout)
	defer timeout.Stop()
	select {
	case <-asked:
	case <-timeout.C:
	case <-ctx.Done():
	}
}

// hurried returns a context that ends when somebody asks for a read, or has.
func (h *Hub) hurried(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hurry = cancel
	if h.asked != nil {
		cancel()
	}
	return ctx, cancel
}

// answered tells those who asked before the last read began. It runs under the hub's mutex.
func (h *Hub) answered() {
	if h.answering != nil {
		close(h.answering)
		h.answering = nil
	}
}
