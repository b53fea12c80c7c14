package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

func TestASessionFromNowGetsWhatIsCommittedNext(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.insert("toto", 3)
		synctest.Wait()
		r := w.open("toto", core.FromNow)
		r.want("before anything is committed")
		r.want("live", w.insert("toto", 2)...)
		if calls := w.Calls(); calls.Pages != 0 {
			t.Errorf("%d reads of history, want none for a session that is live", calls.Pages)
		}
	})
}

func TestReplayGoesOnLive(t *testing.T) {
	for _, tailBytes := range []int{1, 4 << 10, 64 << 20} {
		t.Run(fmt.Sprint(tailBytes), func(t *testing.T) {
			limits := roomy
			limits.TailBytes = tailBytes
			in(t, limits, func(w *world) {
				want := w.insert("toto", 2500)
				w.insert("titi", 10)
				synctest.Wait()
				r := w.open("toto", core.FromStart)
				var got []int64
				for turn := range 1000 {
					synctest.Wait()
					events, err := r.Take(nil, 5, 1<<20)
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range events {
						got = append(got, e.ID)
					}
					if turn%3 == 0 {
						want = append(want, w.insert("toto", 1)...)
					}
				}
				rest, err := r.take()
				if got = append(got, rest...); err != nil || !slices.Equal(got, want) {
					t.Errorf("got %s (%v), want %s", brief(got), err, brief(want))
				}
			})
		})
	}
}

func TestASlowSessionFallsBehindIntoHistory(t *testing.T) {
	limits := roomy
	limits.TailBytes = 1 << 10
	in(t, limits, func(w *world) {
		slow, quick := w.open("toto", core.FromNow), w.open("toto", core.FromNow)
		var want []int64
		for range 50 {
			id := w.insert("toto", 1)
			quick.want("the one that keeps up", id...)
			want = append(want, id...)
		}
		if calls := w.Calls(); calls.Pages != 0 {
			t.Errorf("%d reads of history before anybody fell behind, want none", calls.Pages)
		}
		slow.want("the one that does not", want...)
		stats := w.hub.Stats()
		if stats.Replays != 1 || stats.Pages != 1 {
			t.Errorf("%d replays with %d pages, want 1 and 1", stats.Replays, stats.Pages)
		}
		if stats.TailBytes > limits.TailBytes {
			t.Errorf("recent events take %d bytes, want at most %d", stats.TailBytes, limits.TailBytes)
		}
		slow.want("and both are live again", w.insert("toto", 1)...)
	})
}

func TestEverySessionOfAConsumerGetsEveryEvent(t *testing.T) {
	in(t, roomy, func(w *world) {
		before := w.insert("toto", 3)
		synctest.Wait()
		live, replay := w.open("toto", core.FromNow), w.open("toto", core.FromStart)
		now := w.insert("toto", 2)
		live.want("from now on", now...)
		replay.want("from the start", append(before, now...)...)
	})
}

func TestAnEventWakesItsConsumersSessionsAlone(t *testing.T) {
	in(t, roomy, func(w *world) {
		mine, others := w.open("toto", core.FromNow), w.open("titi", core.FromNow)
		ids := w.insert("toto", 1)
		synctest.Wait()
		if m, o := mine.wakes.Load(), others.wakes.Load(); m != 1 || o != 0 {
			t.Errorf("the consumer's session was woken %d times, another's %d, want 1 and 0", m, o)
		}
		others.want("another consumer's")
		if got := others.Cursor(); got != ids[0] {
			t.Errorf("its cursor is %d, want it to move on to %d all the same", got, ids[0])
		}
		mine.want("the consumer's", ids...)

		tx := w.Begin()
		ids = []int64{tx.Insert("toto", "insert", `1`), tx.Insert("toto", "insert", `2`), tx.Insert("titi", "insert", `3`)}
		tx.Commit()
		synctest.Wait()
		if m, o := mine.wakes.Load(), others.wakes.Load(); m != 2 || o != 1 {
			t.Errorf("woken %d and %d times, want once more for all that one read found", m, o)
		}
		mine.want("its two", ids[:2]...)
		others.want("its one", ids[2])
	})
}

func TestTypesAreChosenLiveAndInHistory(t *testing.T) {
	in(t, roomy, func(w *world) {
		var want []int64
		write := func() {
			for range 5 {
				want = append(want, w.Insert("toto", "paid", `1`))
				w.Insert("toto", "created", `2`)
				want = append(want, w.Insert("toto", "sent", `3`))
			}
			w.Insert("toto", "created", `4`)
			synctest.Wait()
		}
		write()
		r := w.open("toto", core.FromStart, "paid", "sent")
		r.want("history", want...)
		want = nil
		write()
		r.want("live", want...)
		if got, newest := r.Cursor(), w.hub.Status().Position; got != newest {
			t.Errorf("cursor %d, want it past the types that were not asked for, at %d", got, newest)
		}
	})
}

func TestHistoryPrunedInTheMiddleOfAReplayIsSaid(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 1500)
		synctest.Wait()
		r := w.open("toto", core.FromStart)
		_, _ = r.Take(nil, 1, 1) // asks for the first page
		synctest.Wait()
		if events, err := r.Take(nil, 1000, 1<<20); len(events) != 1000 || err != nil {
			t.Fatalf("took %d events (%v), want a page of 1000", len(events), err)
		}
		w.Delete("toto", ids[1199])
		r.wantReset("the second page", core.ResetError{Reason: core.Pruned, Oldest: ids[1199], Newest: ids[1499]})
		r.want("after the reset", ids[1200:]...)
	})
}

func TestACursorOlderThanRetentionIsSaid(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 10)
		w.Delete("toto", ids[4])
		synctest.Wait()
		w.open("toto", core.FromStart).wantReset("from the start", core.ResetError{Reason: core.Pruned, Oldest: ids[4], Newest: ids[9]})
		w.open("toto", ids[4]).want("from the last deleted one", ids[5:]...)
	})
}

func TestACursorBeyondTheNewestPositionIsSaid(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 3)
		synctest.Wait()
		r := w.open("toto", ids[2]+100)
		r.wantReset("ahead", core.ResetError{Reason: core.Ahead, Newest: ids[2]})
		r.want("then live", w.insert("toto", 2)...)
	})
}

func TestACursorFromAnInstanceThatIsQuickerIsNotAhead(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 2)
		synctest.Wait()
		w.SetFaults(coretest.Faults{LoseRings: true})
		ids = append(ids, w.insert("toto", 2)...)
		synctest.Wait()
		if got := w.hub.Status().Position; got != ids[1] {
			t.Fatalf("the hub has read up to %d, want it to be behind at %d", got, ids[1])
		}
		r := w.open("toto", ids[2])
		r.want("what the other instance has not delivered", ids[3])
		time.Sleep(2 * time.Second) // the hub reads unasked, and what it finds is no news
		r.want("no repetition")
		w.SetFaults(coretest.Faults{})
		r.want("live", w.insert("toto", 1)...)
	})
}

func TestADatabaseThatWentBackResetsTheSessions(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 3)
		time.Sleep(time.Second)
		ids = append(ids, w.insert("toto", 7)...)
		synctest.Wait()
		live, old := w.open("toto", core.FromNow), w.open("toto", ids[2])
		live.want("live")
		w.Restore(ids[4])
		live.wantReset("the live session", core.ResetError{Reason: core.Ahead, Newest: ids[4]})
		old.want("the session with a cursor that still holds", ids[3:5]...)
		again := w.insert("toto", 2)
		live.want("live again", again...)
		old.want("live too", again...)
		if !strings.Contains(w.log.String(), "the database went back") {
			t.Errorf("the log does not say that the database went back:\n%s", w.log)
		}
	})
}

func TestLimitsRefuseSessionsUntilOthersClose(t *testing.T) {
	limits := roomy
	limits.Sessions, limits.SessionsPerConsumer = 3, 2
	in(t, limits, func(w *world) {
		refused := func(consumer string, want error) {
			t.Helper()
			s, err := w.hub.Open(consumer, core.FromNow, nil, func() {})
			if !errors.Is(err, want) || s != nil {
				t.Errorf("opening one more session of %s: %v, want %v", consumer, err, want)
			}
		}
		first := w.open("toto", core.FromNow)
		w.open("toto", core.FromNow)
		refused("toto", core.ErrTooManySessionsOfConsumer)
		w.open("titi", core.FromNow)
		refused("tata", core.ErrTooManySessions)
		first.Close()
		first.Close()
		if got := w.hub.Sessions(); got != 2 {
			t.Errorf("%d sessions after one was closed twice, want 2", got)
		}
		w.open("toto", core.FromNow)
		refused("tata", core.ErrTooManySessions)
		if stats := w.hub.Stats(); stats.RefusedSessions != 2 || stats.RefusedSessionsOfConsumer != 1 {
			t.Errorf("counted %d and %d refusals, want 2 and 1", stats.RefusedSessions, stats.RefusedSessionsOfConsumer)
		}
	})
}

func TestNoSessionBeforeTheFirstPositionIsKnown(t *testing.T) {
	hub := newWorld(t, roomy).hub
	if _, err := hub.Open("toto", core.FromNow, nil, func() {}); !errors.Is(err, core.ErrUnavailable) {
		t.Errorf("opening a session before the start: %v, want %v", err, core.ErrUnavailable)
	}
	if _, err := hub.Poll(t.Context(), core.Poll{Consumer: "toto", Limit: 1}); !errors.Is(err, core.ErrUnavailable) {
		t.Errorf("polling before the start: %v, want %v", err, core.ErrUnavailable)
	}
	if hub.Down() == "" {
		t.Error("healthy before the start")
	}
}

func TestTakeIsBoundedByEventsAndBytes(t *testing.T) {
	for _, from := range []string{"memory", "history"} {
		t.Run(from, func(t *testing.T) {
			in(t, roomy, func(w *world) {
				write := func() {
					for _, n := range []int{10, 10, 10, 100, 10} {
						w.Insert("toto", "insert", `"`+strings.Repeat("x", n-2)+`"`)
					}
					synctest.Wait()
				}
				if from == "history" {
					write()
				}
				r := w.open("toto", core.FromStart)
				if from == "memory" {
					write()
				} else {
					_, _ = r.Take(nil, 1, 1) // asks for the page
				}
				for i, want := range []struct{ limit, bytes, events int }{{10, 25, 2}, {10, 50, 1}, {10, 50, 1}, {0, 50, 0}, {10, 50, 1}} {
					synctest.Wait()
					events, err := r.Take(nil, want.limit, want.bytes)
					if err != nil || len(events) != want.events {
						t.Errorf("take %d: %d events (%v), want %d", i, len(events), err, want.events)
					}
				}
			})
		})
	}
}

// crowd opens sessions of so many consumers that payloads are read in a second step.
func crowd(w *world) []*reader {
	readers := make([]*reader, 300)
	for i := range readers {
		readers[i] = w.open(fmt.Sprint("consumer-", i), core.FromNow)
	}
	synctest.Wait()
	return readers
}

// A consumer's first session can come after a read has chosen its consumers, and while payloads are read.
func TestASessionOpenedWhileAReadIsUnderWayMissesNothing(t *testing.T) {
	in(t, roomy, func(w *world) {
		crowd(w)
		var readers []*reader
		ids := map[string]int64{}
		w.SetFaults(coretest.Faults{Fail: func(_ context.Context, method string) error {
			if method == "Read" && len(readers) == 0 || method == "FillPayloads" && len(readers) == 1 {
				r := w.open(method, core.FromNow)
				readers = append(readers, r)
				if events, err := r.Take(nil, 1, 1); len(events) > 0 || err != nil {
					t.Errorf("during %s took %d events (%v) of a read that is not over", method, len(events), err)
				}
			}
			return nil
		}})
		tx := w.Begin()
		tx.Insert("consumer-7", "insert", `0`)
		for _, method := range []string{"Read", "FillPayloads"} {
			ids[method] = tx.Insert(method, "insert", `1`)
		}
		tx.Commit()
		synctest.Wait()
		if len(readers) != 2 {
			t.Fatalf("the read went through %d of the two moments", len(readers))
		}
		for i, method := range []string{"Read", "FillPayloads"} {
			if readers[i].wakes.Load() == 0 {
				t.Errorf("the session opened during %s, which had looked in vain, was not woken", method)
			}
			readers[i].want("opened during "+method, ids[method])
		}
	})
}

// To skip it silently would be a lie, as it would be to a reader that comes a moment later.
func TestAnEventDeletedWhileItIsReadIsSaidToBePruned(t *testing.T) {
	in(t, roomy, func(w *world) {
		r := crowd(w)[0]
		w.SetFaults(coretest.Faults{Fail: func(_ context.Context, method string) error {
			if method == "FillPayloads" {
				w.Delete("consumer-0", 1)
			}
			return nil
		}})
		tx := w.Begin()
		first := tx.Insert("consumer-0", "insert", `1`)
		second := tx.Insert("consumer-0", "insert", `2`)
		tx.Commit()
		synctest.Wait()
		r.wantReset("the deleted one", core.ResetError{Reason: core.Pruned, Oldest: first, Newest: second})
		r.want("the rest", second)
	})
}

func TestManyConsumersGetTheirPayloadsInASecondStep(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.SetFaults(coretest.Faults{MaxPayloads: 7})
		readers := crowd(w)
		tx := w.Begin()
		want := make([][]int64, len(readers))
		for n := range 2 * len(readers) {
			i := n % len(readers)
			want[i] = append(want[i], tx.Insert(fmt.Sprint("consumer-", i), "insert", `{}`))
			tx.Insert("nobody", "insert", `{}`)
		}
		tx.Commit()
		for i, r := range readers {
			r.want(fmt.Sprint("consumer ", i), want[i]...)
		}
		if calls := w.Calls(); calls.FillPayloads == 0 || calls.Pages > 0 {
			t.Errorf("%d reads of payloads and %d of history, want some and none", calls.FillPayloads, calls.Pages)
		}
	})
}

func TestATailOutlivesItsLastSessionForAWhile(t *testing.T) {
	in(t, roomy, func(w *world) {
		back := func(cursor int64, want []int64, pages int) {
			t.Helper()
			before := w.Calls().Pages
			r := w.open("toto", cursor)
			r.want("coming back", want...)
			r.Close()
			if got := w.Calls().Pages - before; got != pages {
				t.Errorf("coming back cost %d reads of history, want %d", got, pages)
			}
		}
		back(core.FromNow, nil, 0)
		ids := w.insert("toto", 2)
		time.Sleep(50 * time.Second)
		back(core.FromStart, ids, 0)
		time.Sleep(50 * time.Second)
		back(core.FromStart, ids, 0)
		time.Sleep(70 * time.Second)
		back(core.FromStart, ids, 1)
	})
}

func TestTheHubStopsWithItsReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, roomy)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.hub.Run(ctx) }()
		<-w.hub.Started()
		w.insert("toto", 1)
		w.SetFaults(coretest.Faults{Fail: func(ctx context.Context, method string) error {
			if method == "Pages" {
				<-ctx.Done()
			}
			return ctx.Err()
		}})
		r := w.open("toto", core.FromStart)
		_, _ = r.Take(nil, 1, 1)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a hub that was told to stop ended with %v", err)
		}
		if n := w.Following(); n != 0 {
			t.Errorf("%d followers are left, want none", n)
		}
		_, _ = r.Take(nil, 1, 1)
		w.open("titi", core.FromStart).Take(nil, 1, 1)
	})
}
