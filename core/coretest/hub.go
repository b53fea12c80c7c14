package coretest

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/event-piper/event-piper/core"
)

// RunHub returns a hub that follows a store until the test ends.
func RunHub(t *testing.T, store core.Store) *core.Hub {
	t.Helper()
	hub := core.NewHub(store, core.Limits{Sessions: 100, SessionsPerConsumer: 100, Pagers: 2, TailBytes: 1 << 20}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := hub.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	select {
	case <-hub.Started():
	case <-t.Context().Done():
		t.Fatal("the hub has not started")
	}
	return hub
}
