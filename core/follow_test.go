package core_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

// failing returns faults by which the given methods fail.
func failing(methods ...string) coretest.Faults {
	return coretest.Faults{Fail: func(_ context.Context, method string) error {
		for _, m := range methods {
			if m == method {
				return coretest.ErrLost
			}
		}
		return nil
	}}
}

// hanging returns faults by which a method does not answer.
func hanging(hangs string) coretest.Faults {
	return coretest.Faults{Fail: func(ctx context.Context, method string) error {
		if method == hangs {
			<-ctx.Done()
		}
		return ctx.Err()
	}}
}

// held returns faults by which a method waits to be released.
func held(holds string, release <-chan struct{}) coretest.Faults {
	return coretest.Faults{Fail: func(_ context.Context, method string) error {
		if method == holds {
			<-release
		}
		return nil
	}}
}

func TestAStoreThatCannotBeFollowedAtTheStartEndsTheHub(t *testing.T) {
	for _, method := range []string{"Follow", "Look"} {
		t.Run(method, func(t *testing.T) {
			w := newWorld(t, roomy)
			w.SetFaults(failing(method))
			if err := w.hub.Run(t.Context()); !errors.Is(err, coretest.ErrLost) {
				t.Errorf("the hub ended with %v, want %v", err, coretest.ErrLost)
			}
		})
	}
}

func TestALostConnectionIsReplacedAndNothingLost(t *testing.T) {
	for _, method := range []string{"Read", "FillPayloads", "Wait"} {
		t.Run(method, func(t *testing.T) {
			in(t, roomy, func(w *world) {
				r := w.open("toto", core.FromNow)
				if method == "FillPayloads" {
					for i := range 300 {
						w.open(fmt.Sprint("consumer-", i), core.FromNow)
					}
				}
				r.want("live", w.insert("toto", 1)...)
				if got := w.hub.Down(); got != "" {
					t.Errorf("down before anything failed: %s", got)
				}
				w.SetFaults(failing(method, "Follow"))
				ids := w.insert("toto", 1)
				synctest.Wait()
				if got := w.hub.Down(); got == "" {
					t.Error("healthy without a connection")
				}
				ids = append(ids, w.insert("toto", 2)...)
				w.SetFaults(coretest.Faults{})
				time.Sleep(10 * time.Second)
				if got := w.hub.Down(); got != "" {
					t.Errorf("down after the connection was replaced: %s", got)
				}
				r.want("what was committed meanwhile", ids...)
				r.want("live again", w.insert("toto", 1)...)
			})
		})
	}
}

func TestReconnectingBacksOffAndStartsOver(t *testing.T) {
	in(t, roomy, func(w *world) {
		lose := func() int {
			before := w.Calls().Follow
			w.SetFaults(failing("Follow"))
			w.Disconnect()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			attempts := w.Calls().Follow - before
			w.SetFaults(coretest.Faults{})
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			if got := w.hub.Down(); got != "" {
				t.Fatalf("down %s after the store is back, want it back within the longest pause", got)
			}
			return attempts
		}
		// The pause is between 0.75 and 1.5 seconds in the end, after a few shorter ones.
		for range 2 {
			if n := lose(); n < 400 || n > 810 {
				t.Errorf("%d attempts in ten minutes, want one every 0.75 to 1.5 seconds", n)
			}
		}
		if n := strings.Count(w.log.String(), "following the database again"); n != 2 || !strings.Contains(w.log.String(), "after=10m") {
			t.Errorf("the ends of two outages of ten minutes were logged %d times:\n%.2000s", n, w.log)
		}
		before := w.Calls().Follow
		w.Disconnect()
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if got := w.Calls().Follow - before; got != 1 {
			t.Errorf("%d attempts in the first 50 ms after a good connection, want 1", got)
		}
	})
}

func TestAStoreThatDoesNotAnswerIsDownAndThenReplaced(t *testing.T) {
	in(t, roomy, func(w *world) {
		r := w.open("toto", core.FromNow)
		w.SetFaults(hanging("Read"))
		ids := w.insert("toto", 1)
		time.Sleep(6 * time.Second)
		if got := w.hub.Down(); got == "" {
			t.Error("healthy six seconds after the last read")
		}
		w.SetFaults(coretest.Faults{})
		time.Sleep(time.Minute)
		if got := w.hub.Down(); got != "" {
			t.Errorf("down although the connection was given up: %s", got)
		}
		r.want("what could not be read", ids...)
	})
}

func TestALostOrLateRingDelaysAnEventAtMostASecond(t *testing.T) {
	for name, faults := range map[string]coretest.Faults{
		"lost": {LoseRings: true}, "late": {RingAfter: 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, roomy, func(w *world) {
				w.SetFaults(faults)
				r := w.open("toto", core.FromNow)
				for range 3 {
					ids := w.insert("toto", 2)
					time.Sleep(1100 * time.Millisecond)
					r.want("without a ring in time", ids...)
				}
			})
		})
	}
}

func TestAnIdleHubReadsAboutOnceASecond(t *testing.T) {
	in(t, roomy, func(w *world) {
		before := w.Calls().Read
		time.Sleep(time.Minute)
		if got := w.Calls().Read - before; got < 50 || got > 70 {
			t.Errorf("%d reads in an idle minute, want about 60", got)
		}
	})
}

func TestAReadThatWasCutShortIsContinuedAtOnce(t *testing.T) {
	in(t, roomy, func(w *world) {
		r := w.open("toto", core.FromNow)
		w.SetFaults(coretest.Faults{MaxEvents: 3})
		tx := w.Begin()
		var want []int64
		for range 20 {
			want = append(want, tx.Insert("toto", "insert", `{}`))
		}
		tx.Commit()
		r.want("in several reads", want...)
	})
}

func TestATransactionThatHoldsEventsBackIsNamed(t *testing.T) {
	limits := roomy
	limits.HeldBackDown = 5 * time.Minute
	in(t, limits, func(w *world) {
		r := w.open("toto", core.FromNow)
		open := w.Begin()
		first := open.Insert("toto", "insert", `1`)
		ids := w.insert("toto", 3)
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		if w.log.Len() > 0 {
			t.Errorf("logged before three seconds have passed:\n%s", w.log)
		}
		status := w.hub.Status()
		if status.Writers != 1 || status.Watermark != first-1 || status.HeldBack.IsZero() {
			t.Errorf("status %+v, want 1 writer, watermark %d, and since when events are held back", status, first-1)
		}
		time.Sleep(58 * time.Second)
		synctest.Wait()
		log := w.log.String()
		if want := fmt.Sprintf("pid=%d ", open.Pid()); !strings.Contains(log, want) || !strings.Contains(log, "held_back=4") {
			t.Errorf("the log does not name %q and 4 events held back:\n%s", want, log)
		}
		if n := strings.Count(log, "\n"); n > 6 {
			t.Errorf("logged %d times in a minute, want less and less often:\n%s", n, log)
		}
		r.want("held back")
		if reason := w.hub.Down(); reason != "" {
			t.Errorf("not healthy after a minute: %s", reason)
		}
		time.Sleep(5 * time.Minute)
		if reason := w.hub.Down(); !strings.Contains(reason, "transaction") {
			t.Errorf("after six minutes the reason for not being healthy is %q, want the transaction", reason)
		}
		open.Commit()
		r.want("then", append([]int64{first}, ids...)...)
		if status := w.hub.Status(); !status.HeldBack.IsZero() || status.Writers != 0 {
			t.Errorf("afterwards the status is %+v, want nothing held back", status)
		}
	})
}

func TestWritersThatComeAndGoAreNotHeldAgainstOneAnother(t *testing.T) {
	in(t, roomy, func(w *world) {
		previous := w.Begin()
		previous.Insert("toto", "insert", `1`)
		for range 20 {
			time.Sleep(time.Second)
			next := w.Begin()
			next.Insert("toto", "insert", `2`)
			previous.Commit()
			previous = next
		}
		previous.Rollback()
		synctest.Wait()
		if w.log.Len() > 0 {
			t.Errorf("logged although nobody wrote for long:\n%s", w.log)
		}
	})
}

// The instance has not read what the cursor is from, and it may be another database that it comes back to.
func TestACursorBeyondTheInstanceIsLookedUpAgainOverANewConnection(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.insert("toto", 5)
		synctest.Wait()
		w.SetFaults(failing("Follow", "Read"))
		w.insert("toto", 3)
		reader := w.open("toto", 8)
		reader.want("a cursor that the database knows")
		w.Restore(6)
		w.Disconnect()
		w.SetFaults(coretest.Faults{})
		time.Sleep(time.Minute)
		reader.wantReset("the same cursor in an older database", core.ResetError{Reason: core.Ahead, Newest: 6})
	})
}
