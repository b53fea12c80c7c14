package core_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

// roomy are limits that no test reaches by accident.
var roomy = core.Limits{Sessions: 10_000, SessionsPerConsumer: 10_000, Pagers: 2, TailBytes: 64 << 20}

// world is a hub that follows a store in memory.
type world struct {
	*testing.T
	*coretest.Store
	hub *core.Hub
	log *bytes.Buffer
}

// in runs a test in a bubble with a clock of its own, over an empty store.
func in(t *testing.T, limits core.Limits, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, limits)
		w.run()
		test(w)
	})
}

func newWorld(t *testing.T, limits core.Limits) *world {
	w := &world{T: t, Store: coretest.NewStore(), log: new(bytes.Buffer)}
	w.hub = core.NewHub(w.Store, limits, slog.New(slog.NewTextHandler(w.log, nil)))
	return w
}

// run runs the hub until the test ends.
func (w *world) run() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := w.hub.Run(w.Context()); err != nil {
			w.Errorf("the hub ended with %v", err)
		}
	}()
	<-w.hub.Started()
	w.Cleanup(func() { <-ended })
	synctest.Wait()
}

// insert commits n events of a consumer, one by one, and returns their ids.
func (w *world) insert(consumer string, n int) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = w.Insert(consumer, "insert", fmt.Sprintf(`{"n":%d}`, i))
	}
	return ids
}

// reader is a session whose wakes are counted.
type reader struct {
	*core.Session
	w     *world
	wakes atomic.Int64
}

func (w *world) open(consumer string, cursor int64, types ...string) *reader {
	w.Helper()
	r := &reader{w: w}
	var err error
	if r.Session, err = w.hub.Open(consumer, cursor, types, func() { r.wakes.Add(1) }); err != nil {
		w.Fatalf("open a session of %s after %d: %v", consumer, cursor, err)
	}
	w.Cleanup(r.Close)
	return r
}

// take takes all there is, a few at a time, and once more only if the session was woken: as a stream does.
func (r *reader) take() (ids []int64, err error) {
	for {
		synctest.Wait()
		before := r.wakes.Load()
		events, err := r.Take(nil, 2, 1<<20)
		for _, e := range events {
			ids = append(ids, e.ID)
		}
		if err != nil {
			return ids, err
		}
		synctest.Wait()
		if len(events) == 0 && r.wakes.Load() == before {
			return ids, nil
		}
	}
}

func (r *reader) want(what string, want ...int64) {
	r.w.Helper()
	got, err := r.take()
	if err != nil {
		r.w.Fatalf("%s: %v", what, err)
	}
	if !slices.Equal(got, want) {
		r.w.Fatalf("%s: got %s, want %s", what, brief(got), brief(want))
	}
}

func (r *reader) wantReset(what string, want core.ResetError) {
	r.w.Helper()
	got, err := r.take()
	var reset *core.ResetError
	if !errors.As(err, &reset) || *reset != want || len(got) > 0 {
		r.w.Fatalf("%s: got %s and %v, want nothing and %v", what, brief(got), err, &want)
	}
}

func brief(ids []int64) string {
	if len(ids) > 20 {
		return fmt.Sprintf("%d events %v … %v", len(ids), ids[:5], ids[len(ids)-5:])
	}
	return fmt.Sprint(ids)
}
