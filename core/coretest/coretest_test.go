package coretest_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

func TestStoreInMemory(t *testing.T) {
	coretest.TestStore(t, func(*testing.T) coretest.Harness { return coretest.NewStore().Harness() })
}

// race is the run that catches what a reader loses without the watermark.
func race(t *testing.T) coretest.Race {
	return coretest.Race{
		Seed: coretest.Seed(t), Writers: 16, Transactions: 50, Consumers: 3, Readers: 3, TailBytes: 2 << 10,
	}
}

func TestRacingWritersLoseNothingWhateverFails(t *testing.T) {
	store := coretest.NewStore()
	race := race(t)
	race.Disturb = disturb(store, func(r *rand.Rand) coretest.Faults {
		return coretest.Faults{
			LoseRings: r.IntN(4) == 0, RingAfter: time.Duration(r.IntN(2)) * time.Millisecond,
			MaxPages: r.IntN(3), MaxPayloads: r.IntN(3), MaxEvents: r.IntN(4), Fail: failSometimes(r.Uint64()),
		}
	})
	if err := race.Run(t.Context(), store.Harness()); err != nil {
		t.Fatal(err)
	}
}

// disturb gives a store other faults again and again, and takes its connections away now and then.
func disturb(store *coretest.Store, faults func(*rand.Rand) coretest.Faults) func(context.Context, *rand.Rand) {
	return func(ctx context.Context, r *rand.Rand) {
		for ctx.Err() == nil {
			store.SetFaults(faults(r))
			if r.IntN(3) == 0 {
				store.Disconnect()
			}
			select {
			case <-time.After(time.Duration(r.IntN(20)) * time.Millisecond):
			case <-ctx.Done():
			}
		}
		store.SetFaults(coretest.Faults{})
	}
}

// failSometimes fails one call in eight and makes another slow.
func failSometimes(seed uint64) func(context.Context, string) error {
	var calls atomic.Uint64
	return func(ctx context.Context, _ string) error {
		switch r := rand.New(rand.NewPCG(seed, calls.Add(1))); r.IntN(8) {
		case 0:
			return coretest.ErrLost
		case 1:
			select {
			case <-time.After(time.Duration(r.IntN(4)) * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return nil
	}
}

func TestTheRaceCatchesAStoreWithoutAWatermark(t *testing.T) {
	store := coretest.NewStore()
	store.SetFaults(coretest.Faults{IgnoreWatermark: true})
	err := race(t).Run(t.Context(), store.Harness())
	var loss *coretest.LossError
	if !errors.As(err, &loss) {
		t.Fatalf("the run without a watermark ended with %v, want a loss", err)
	}
	t.Log(loss)
}

func TestPollersInMemory(t *testing.T) {
	bounded := func() *coretest.Store {
		store := coretest.NewStore()
		store.SetFaults(coretest.Faults{MaxPayload: coretest.MaxPayload})
		return store
	}
	t.Run("hub", func(t *testing.T) {
		coretest.TestPoller(t, func(t *testing.T) coretest.Polling {
			h := bounded().Harness()
			return coretest.Polling{Poller: coretest.RunHub(t, h.Store), Table: h.Table}
		})
	})
	t.Run("direct", func(t *testing.T) {
		coretest.TestPoller(t, func(t *testing.T) coretest.Polling {
			store := bounded()
			d := core.NewDirect(store.Connect, slog.New(slog.DiscardHandler))
			t.Cleanup(func() {
				if _, armed := store.Connected(); armed > 0 {
					t.Error("it is armed between polls")
				}
				d.Close()
			})
			return coretest.Polling{Poller: d, Table: store.Harness().Table}
		})
	})
}

func TestPollsWithoutAHubLoseNothingWhateverFails(t *testing.T) {
	store := coretest.NewStore()
	race := race(t)
	race.Poller = func() (core.Poller, func()) {
		d := core.NewDirect(store.Connect, slog.New(slog.DiscardHandler))
		return d, d.Close
	}
	race.Disturb = disturb(store, func(r *rand.Rand) coretest.Faults {
		return coretest.Faults{
			LoseRings: r.IntN(4) == 0, RingAfter: time.Duration(r.IntN(2)) * time.Millisecond,
			MaxPageEvents: r.IntN(4), Fail: failSometimes(r.Uint64()),
		}
	})
	if err := race.Run(t.Context(), store.Harness()); err != nil {
		t.Fatal(err)
	}
	if n, _ := store.Connected(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	store = coretest.NewStore()
	store.SetFaults(coretest.Faults{IgnoreWatermark: true})
	race.Disturb = nil
	var loss *coretest.LossError
	if err := race.Run(t.Context(), store.Harness()); !errors.As(err, &loss) {
		t.Errorf("the run without a watermark ended with %v, want a loss", err)
	}
}
