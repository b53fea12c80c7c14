// Package health answers whether the process lives and whether it is ready, in the sense that an event
// committed now would be delivered.
package health

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
)

// Health is the state behind the routes below /manage/health.
type Health struct {
	// Down says why events are not being delivered, or "" if they are.
	Down     func(r *http.Request) string
	stopping atomic.Bool
}

// Stop makes the service not ready, because it is about to end.
func (h *Health) Stop() { h.stopping.Store(true) }

// Register adds the routes: /manage/health/live as long as the process answers, /manage/health/ready and
// /manage/health while events are delivered and the service is not about to end.
func (h *Health) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /manage/health/live", func(w http.ResponseWriter, _ *http.Request) { answer(w, "") })
	ready := func(w http.ResponseWriter, r *http.Request) {
		if h.stopping.Load() {
			answer(w, "shutting down")
			return
		}
		answer(w, h.Down(r))
	}
	mux.HandleFunc("GET /manage/health", ready)
	mux.HandleFunc("GET /manage/health/ready", ready)
}

func answer(w http.ResponseWriter, down string) {
	body := struct {
		Status string `json:"status"`
		Reason string `json:"reason,omitempty"`
	}{Status: "UP", Reason: down}
	status := http.StatusOK
	if down != "" {
		body.Status, status = "DOWN", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	b, _ := json.Marshal(body) // two strings always encode
	_, _ = w.Write(b)          // the client is gone when this fails
}
