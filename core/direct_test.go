package core_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

// alone is a poller without a hub, in a bubble with a clock of its own.
type alone struct {
	*testing.T
	*coretest.Store
	direct *core.Direct
}

// without runs a test of polls without a hub. After it, nothing may be left.
func without(t *testing.T, test func(a *alone)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := &alone{T: t, Store: coretest.NewStore()}
		a.direct = core.NewDirect(a.Connect, slog.New(slog.DiscardHandler))
		test(a)
		a.direct.Close()
		if n, _ := a.Connected(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

func (a *alone) poll(ctx context.Context, p core.Poll) answer {
	p.Consumer, p.Limit = "toto", 10
	start := time.Now()
	batch, err := a.direct.Poll(ctx, p)
	got := answer{Batch: batch, err: err, in: time.Since(start)}
	for _, e := range batch.Events {
		got.ids = append(got.ids, e.ID)
	}
	if _, armed := a.Connected(); armed > 0 {
		a.Errorf("armed after a poll (%v): a frozen process would keep the notifications", err)
	}
	return got
}

func TestADirectPollWaitsArmedAndIsAnsweredByTheNextEvent(t *testing.T) {
	without(t, func(a *alone) {
		go func() {
			time.Sleep(3 * time.Second)
			if _, armed := a.Connected(); armed != 1 {
				a.Errorf("%d armed while a poll waits, want 1", armed)
			}
			time.Sleep(4 * time.Second)
			a.Insert("toto", "insert", `{}`)
		}()
		a.poll(a.Context(), core.Poll{After: core.FromNow, Wait: 25 * time.Second}).want(a.T, 7*time.Second, 1, false, 1)
		a.poll(a.Context(), core.Poll{After: 1, Wait: 25 * time.Second}).want(a.T, 25*time.Second, 1, false)
	})
}

func TestADirectPollFindsWhatHasNotRung(t *testing.T) {
	without(t, func(a *alone) {
		a.SetFaults(coretest.Faults{LoseRings: true})
		go func() {
			time.Sleep(2500 * time.Millisecond)
			a.Insert("toto", "insert", `{}`)
		}()
		a.poll(a.Context(), core.Poll{After: core.FromNow, Wait: 25 * time.Second}).want(a.T, 3*time.Second, 1, false, 1)
	})
}

// A commit between the first look and the arming rings for nobody: the look after the arming finds it.
func TestNothingFallsBetweenLookingAndArming(t *testing.T) {
	without(t, func(a *alone) {
		var once atomic.Bool
		a.SetFaults(coretest.Faults{LoseRings: true, Fail: func(_ context.Context, method string) error {
			if method == "Arm" && !once.Swap(true) {
				a.Insert("toto", "insert", `{}`)
			}
			return nil
		}})
		a.poll(a.Context(), core.Poll{After: core.FromNow, Wait: 25 * time.Second}).want(a.T, 0, 1, false, 1)
	})
}

// It answers in time, whatever it waits for: the function is killed at its deadline.
func TestADirectPollLeavesTimeToAnswer(t *testing.T) {
	without(t, func(a *alone) {
		ctx, cancel := context.WithTimeout(a.Context(), 10*time.Second)
		defer cancel()
		a.poll(ctx, core.Poll{After: core.FromNow, Wait: 25 * time.Second}).want(a.T, 9*time.Second, 0, false)
	})
	for _, method := range []string{"Connect", "Horizon", "Page", "Arm", "Wait"} {
		without(t, func(a *alone) {
			a.SetFaults(hanging(method))
			ctx, cancel := context.WithTimeout(a.Context(), 10*time.Second)
			defer cancel()
			got := a.poll(ctx, core.Poll{After: core.FromNow, Wait: 25 * time.Second})
			if !errors.Is(got.err, core.ErrUnavailable) || got.in > 9500*time.Millisecond {
				a.Errorf("%s hangs: %v after %v, want %v after 9.5s at the latest", method, got.err, got.in, core.ErrUnavailable)
			}
		})
	}
}

func TestAConnectionThatDiedUnnoticedIsReplacedWithinThePoll(t *testing.T) {
	without(t, func(a *alone) {
		a.Insert("toto", "insert", `{}`)
		a.poll(a.Context(), core.Poll{}).want(a.T, 0, 1, false, 1)
		a.Disconnect()
		a.poll(a.Context(), core.Poll{}).want(a.T, 0, 1, false, 1)
		// Neither refused nor answered, as by a host that is gone.
		var hung atomic.Bool
		a.SetFaults(coretest.Faults{Fail: func(ctx context.Context, method string) error {
			if method == "Horizon" && !hung.Swap(true) {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}})
		a.poll(a.Context(), core.Poll{}).want(a.T, 2*time.Second, 1, false, 1)
	})
}

func TestADirectPollSaysThatEventsCannotBeRead(t *testing.T) {
	for _, method := range []string{"Connect", "Horizon", "Page", "Arm", "Wait"} {
		without(t, func(a *alone) {
			a.Insert("toto", "insert", `{}`)
			a.SetFaults(failing(method))
			if got := a.poll(a.Context(), core.Poll{After: 1, Wait: time.Second}); !errors.Is(got.err, core.ErrUnavailable) {
				a.Errorf("%s fails: %v, want %v", method, got.err, core.ErrUnavailable)
			}
			a.SetFaults(coretest.Faults{})
			a.poll(a.Context(), core.Poll{}).want(a.T, 0, 1, false, 1)
		})
	}
	// What was found is found, but the connection that cannot be disarmed is closed.
	without(t, func(a *alone) {
		a.SetFaults(failing("Disarm"))
		a.poll(a.Context(), core.Poll{Wait: time.Second}).want(a.T, time.Second, 0, false)
		if n, _ := a.Connected(); n != 0 {
			a.Errorf("%d connections, want the one that stayed armed closed", n)
		}
	})
}

func TestWhatPrecedesADamagedEventIsDelivered(t *testing.T) {
	without(t, func(a *alone) {
		ids := make([]int64, 7)
		for i := range ids {
			ids[i] = a.Insert("toto", "insert", `{}`)
		}
		a.SetFaults(coretest.Faults{Damaged: func(e *core.Event) bool { return e.ID == ids[5] }})
		var got []int64
		cursor := int64(0)
		for len(got) < 5 {
			p := a.poll(a.Context(), core.Poll{After: cursor})
			if p.err != nil || len(p.ids) == 0 {
				a.Fatalf("after %d: %v (%v), want the events before the damaged one", cursor, p.ids, p.err)
			}
			got, cursor = append(got, p.ids...), p.Cursor
		}
		if !slices.Equal(got, ids[:5]) {
			a.Errorf("got %v, want %v", got, ids[:5])
		}
		if p := a.poll(a.Context(), core.Poll{After: cursor}); !errors.Is(p.err, core.ErrUnavailable) {
			a.Errorf("at the damaged one: %v, want %v", p.err, core.ErrUnavailable)
		}
		if n, _ := a.Connected(); n != 1 {
			a.Errorf("%d connections, want the one that works kept", n)
		}
		a.poll(a.Context(), core.Poll{After: ids[5]}).want(a.T, 0, ids[6], false, ids[6])
	})
}

// An environment of Lambda may be given several requests at once.
func TestDirectPollsDoNotWaitForOneAnother(t *testing.T) {
	without(t, func(a *alone) {
		waited := make(chan answer)
		for range 3 {
			go func() {
				start := time.Now()
				batch, err := a.direct.Poll(a.Context(), core.Poll{Consumer: "toto", After: core.FromNow, Limit: 1, Wait: 25 * time.Second})
				waited <- answer{Batch: batch, err: err, in: time.Since(start)}
			}()
		}
		synctest.Wait()
		if n, armed := a.Connected(); n != 3 || armed != 3 {
			a.Errorf("%d connections, %d armed, want one for each of the three polls", n, armed)
		}
		time.Sleep(time.Second)
		if err := a.direct.Ping(a.Context()); err != nil {
			a.Errorf("ping: %v", err)
		}
		a.Insert("toto", "insert", `{}`)
		for range 3 {
			if got := <-waited; got.err != nil || got.in != time.Second || len(got.Events) != 1 {
				a.Errorf("%d events after %v (%v), want one after 1s", len(got.Events), got.in, got.err)
			}
		}
		a.poll(a.Context(), core.Poll{}).want(a.T, 0, 1, false, 1)
		if n, armed := a.Connected(); n != 4 || armed != 0 {
			a.Errorf("%d connections, %d armed, want four kept for the next, none armed", n, armed)
		}
	})
}
