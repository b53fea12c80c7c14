package core_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

// readEight inserts eight events, of which the instance remembers the fifth as well as the last.
func (w *world) readEight() {
	w.insert("toto", 5)
	time.Sleep(time.Second)
	w.insert("toto", 3)
	synctest.Wait()
}

// failOver has the instance come back to a database that has lost what is after a position, and passed that again.
func (w *world) failOver(kept int64, events int) {
	w.Helper()
	w.SetFaults(failing("Follow", "Read", "Pages"))
	w.Restore(kept)
	w.insert("toto", events)
	w.Disconnect()
	w.SetFaults(coretest.Faults{})
	time.Sleep(2 * time.Second)
}

// Their ids are drawn again, so that the sequence is not behind what was read.
func TestLostEventsAreToldThoughTheirIdsAreThereAgain(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.insert("toto", 5)
		time.Sleep(time.Second)
		live, old := w.open("toto", core.FromNow), w.open("toto", 4)
		w.insert("toto", 3)
		live.want("before", 6, 7, 8)
		w.failOver(5, 6)
		live.wantReset("the live session", core.ResetError{Reason: core.Ahead, Newest: 11})
		old.want("the session with a cursor that still holds", 5, 6, 7, 8, 9, 10, 11)
		w.insert("toto", 1)
		live.want("live again", 12)

		w.Disconnect()
		time.Sleep(2 * time.Second)
		w.insert("toto", 1)
		live.want("over a new connection to the same database", 13)
	})
}

func TestAFailoverThatLostNothingIsNotTold(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.insert("toto", 5)
		synctest.Wait()
		live := w.open("toto", core.FromNow)
		w.insert("toto", 3)
		live.want("before", 6, 7, 8)
		w.failOver(8, 2)
		live.want("after", 9, 10)
		if stats := w.hub.Stats(); stats.ResetsAhead != 0 {
			t.Errorf("%d resets, want none", stats.ResetsAhead)
		}
	})
}

// What retention has deleted was there.
func TestAPositionThatRetentionHasDeletedIsNotLost(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.insert("toto", 5)
		synctest.Wait()
		live := w.open("toto", core.FromNow)
		synctest.Wait()
		w.Delete("toto", 5)
		w.Disconnect()
		time.Sleep(2 * time.Second)
		w.insert("toto", 1)
		live.want("after", 6)
	})
}

// Between two polls no session has the cursor.
func TestAPollThatComesAfterALossIsTold(t *testing.T) {
	in(t, roomy, func(w *world) {
		poll := func(after int64, limit int) (core.Batch, *core.ResetError) {
			t.Helper()
			batch, err := w.hub.Poll(context.Background(), core.Poll{Consumer: "toto", After: after, Limit: limit})
			reset, _ := errors.AsType[*core.ResetError](err)
			if err != nil && reset == nil {
				t.Fatal(err)
			}
			batch.Release()
			return batch, reset
		}
		w.readEight()
		w.failOver(5, 6)
		if _, reset := poll(8, 10); reset == nil || reset.Reason != core.Ahead || reset.Newest != 11 {
			t.Fatalf("a poll with a cursor of before: %v, want it ahead of 11", reset)
		}
		// Who reads through all of it has cursors there that are of now.
		for after := range int64(11) {
			if batch, reset := poll(after, 1); reset != nil || batch.Cursor != after+1 {
				t.Fatalf("a poll of one event after %d: %v and cursor %d, want the next", after, reset, batch.Cursor)
			}
		}
		if _, reset := poll(11, 1); reset != nil {
			t.Errorf("a poll of the newest: %v, want none", reset)
		}
		time.Sleep(6 * time.Minute)
		if _, reset := poll(8, 10); reset != nil {
			t.Errorf("a poll long after: %v, want none", reset)
		}
	})
}

// What one client of a consumer was told, another was not.
func TestEachClientOfAConsumerIsToldOfALoss(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.readEight()
		w.failOver(5, 6)
		first := w.open("toto", 8)
		first.wantReset("the first client", core.ResetError{Reason: core.Ahead, Newest: 11})
		w.insert("toto", 2)
		first.want("the first client goes on", 12, 13)
		first.Close()
		w.open("toto", 7).wantReset("the second client", core.ResetError{Reason: core.Ahead, Newest: 13})
		w.open("toto", 13).want("who has a cursor of now")
	})
}

// A client may be gone between the answer and its being taken, and come back with the same cursor.
func TestALossThatIsNotTakenIsToldToTheNext(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.readEight()
		w.failOver(5, 6)
		first, err := w.hub.Open("toto", 8, nil, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if events, err := first.Take(nil, 10, 1<<20); len(events) > 0 || err != nil {
			t.Fatalf("%d events (%v), want none before history is read", len(events), err)
		}
		synctest.Wait()
		if first.Settled() {
			t.Error("a reset is to be taken, and the session is settled")
		}
		first.Close()
		w.open("toto", 8).wantReset("who comes back", core.ResetError{Reason: core.Ahead, Newest: 11})
	})
}

// What one client has got since says nothing of another's cursor, nor of what came of it at its own client.
func TestALossIsToldToWhoeverWasAwayWhileOthersWentOn(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.insert("toto", 5)
		time.Sleep(time.Second)
		other := w.open("toto", 4)
		other.want("before", 5)
		w.insert("toto", 3)
		other.want("what will be lost", 6, 7, 8)
		w.failOver(5, 6)
		other.wantReset("whoever was there", core.ResetError{Reason: core.Ahead, Newest: 11})
		w.open("toto", 5).want("from a cursor that still holds", 6, 7, 8, 9, 10, 11)
		w.insert("toto", 1)
		other.want("live again", 12)
		other.Close()
		w.open("toto", 7).wantReset("whoever was away", core.ResetError{Reason: core.Ahead, Newest: 12})
	})
}

// A page that was asked for before may end at a position of before.
func TestAPageThatWasAskedForBeforeALossIsReadAgain(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.insert("toto", 5)
		time.Sleep(time.Second)
		w.insert("toto", 3)
		time.Sleep(time.Second)
		w.SetFaults(hanging("Pages"))
		old := w.open("toto", 2)
		old.want("nothing yet")
		w.Restore(5)
		w.insert("toto", 6)
		w.Disconnect()
		time.Sleep(2 * time.Second)
		w.SetFaults(coretest.Faults{})
		time.Sleep(10 * time.Minute)
		old.want("history", 3, 4, 5, 6, 7, 8, 9, 10, 11)
	})
}

// lateStore hands out the pages of history when it is told to.
type lateStore struct {
	*coretest.Store
	late chan struct{} // nil is at once
}

func (s *lateStore) Pages(ctx context.Context, queries []core.PageQuery, known core.Mark) ([]core.Page, error) {
	pages, err := s.Store.Pages(ctx, queries, known)
	if s.late != nil {
		<-s.late
	}
	return pages, err
}

// A page may have been read before a loss of what only this page had come to, and arrive when the instance follows again.
func TestAPageThatWasReadBeforeALossIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, Store: coretest.NewStore()}
		late := &lateStore{Store: w.Store}
		w.hub = core.NewHub(late, roomy, slog.New(slog.DiscardHandler))
		w.run()
		w.insert("toto", 5)
		synctest.Wait()
		w.SetFaults(hanging("Read"))
		w.insert("toto", 2)
		synctest.Wait()
		late.late = make(chan struct{})
		beyond := w.open("toto", 6) // a cursor of another instance
		beyond.want("nothing yet")
		w.Restore(5)
		w.Disconnect()
		w.SetFaults(coretest.Faults{})
		time.Sleep(2 * time.Minute)
		close(late.late)
		beyond.wantReset("once it has come", core.ResetError{Reason: core.Ahead, Newest: 5})
	})
}

// A page may come from the new primary while the instance still is connected to the old one, or to none.
func TestAPageOfADatabaseThatLostEventsIsNotDelivered(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.readEight()
		w.SetFaults(failing("Follow", "Read"))
		w.Restore(5)
		w.insert("toto", 6)
		behind, beyond := w.open("toto", 5), w.open("toto", 7)
		for _, r := range []*reader{behind, beyond} {
			if got, err := r.take(); len(got) > 0 || !errors.Is(err, core.ErrUnavailable) {
				t.Errorf("before the instance knows: got %v (%v), want nothing and %v", got, err, core.ErrUnavailable)
			}
		}
		w.SetFaults(coretest.Faults{})
		time.Sleep(4 * time.Second)
		behind.want("then", 6, 7, 8, 9, 10, 11)
		beyond.wantReset("then, with a cursor of before", core.ResetError{Reason: core.Ahead, Newest: 11})
	})
}

// What a page says is known to be of another database only when that is noticed.
func TestAResetOfBeforeALossWasNoticedIsNotTold(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.readEight()
		woken := make(chan struct{}, 100)
		s, err := w.hub.Open("toto", 6, nil, func() { woken <- struct{}{} })
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w.Delete("toto", 7)
		if _, err := s.Take(nil, 10, 1<<20); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // a page says that 7 was deleted
		w.SetFaults(failing("Follow", "Read"))
		w.Restore(5)
		w.insert("toto", 6)
		w.Disconnect()
		w.SetFaults(coretest.Faults{})
		time.Sleep(2 * time.Second)
		for range 5 { // the page is asked for again
			if _, err = s.Take(nil, 10, 1<<20); err != nil {
				break
			}
			synctest.Wait()
		}
		if reset, _ := errors.AsType[*core.ResetError](err); reset == nil || reset.Reason != core.Ahead {
			t.Errorf("got %v, want that the cursor is ahead", err)
		}
	})
}
