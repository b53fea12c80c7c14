package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

func TestHistoryIsReadInBatchesByFewReaders(t *testing.T) {
	const herd = 5000
	in(t, roomy, func(w *world) {
		var want []int64
		for range 40 {
			want = append(want, w.insert("toto", 1)...)
			w.insert("titi", 1)
		}
		synctest.Wait()
		w.SetFaults(coretest.Faults{Fail: func(_ context.Context, method string) error {
			if method == "Pages" {
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		}})
		readers := make([]*reader, herd)
		for i := range readers {
			readers[i] = w.open("toto", core.FromStart)
			_, _ = readers[i].Take(nil, 1, 1) // asks
		}
		got := make([][]int64, herd)
		for range 4 {
			time.Sleep(time.Minute)
			for i, r := range readers {
				ids, err := r.take()
				if err != nil {
					t.Fatal(err)
				}
				got[i] = append(got[i], ids...)
			}
		}
		for i := range got {
			if !slices.Equal(got[i], want) {
				t.Fatalf("one of the herd got %s, want %s", brief(got[i]), brief(want))
			}
		}
		calls := w.Calls()
		// 40 events are three pages of a crowd's size; the batches are of 256.
		if most := 4 * (herd/256 + 2); calls.Pages > most {
			t.Errorf("%d reads of history for %d sessions, want at most %d", calls.Pages, herd, most)
		}
		if calls.PagesAtOnce > roomy.Pagers {
			t.Errorf("%d reads of history at once, want at most %d", calls.PagesAtOnce, roomy.Pagers)
		}
	})
}

func TestAStoreMayAnswerAFewQueriesAtATime(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.SetFaults(coretest.Faults{MaxPages: 1})
		want := w.insert("toto", 30)
		synctest.Wait()
		readers := make([]*reader, 20)
		for i := range readers {
			readers[i] = w.open("toto", core.FromStart)
			_, _ = readers[i].Take(nil, 1, 1) // asks
		}
		for _, r := range readers {
			r.want("one of many", want...)
		}
	})
}

func TestHistoryThatCannotBeReadIsTriedAgain(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 3)
		synctest.Wait()
		w.SetFaults(failing("Pages"))
		r := w.open("toto", core.FromStart)
		if got, err := r.take(); !errors.Is(err, core.ErrUnavailable) || len(got) > 0 {
			t.Errorf("took %v with %v, want nothing with %v", got, err, core.ErrUnavailable)
		}
		w.SetFaults(coretest.Faults{})
		time.Sleep(10 * time.Second)
		r.want("when it can be read", ids...)
	})
}

func TestASessionAsksOnceForAPage(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 3)
		synctest.Wait()
		release := make(chan struct{})
		w.SetFaults(held("Pages", release))
		r := w.open("toto", core.FromStart)
		for range 3 {
			if events, err := r.Take(nil, 1, 1); len(events) > 0 || err != nil {
				t.Errorf("took %d events (%v) before they were read", len(events), err)
			}
			synctest.Wait()
		}
		close(release)
		r.want("the page", ids...)
		if calls := w.Calls(); calls.Queries != 1 {
			t.Errorf("asked for %d pages, want 1", calls.Queries)
		}
	})
}

func TestAFailureIsForgottenOnceHistoryIsThere(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 3)
		synctest.Wait()
		w.SetFaults(failing("Pages"))
		r := w.open("toto", core.FromStart)
		_, _ = r.Take(nil, 1, 1) // asks
		synctest.Wait()
		w.SetFaults(coretest.Faults{})
		time.Sleep(10 * time.Second)
		events, err := r.Take(nil, 10, 1<<20) // the one turn that both wakes gave it
		if err != nil || len(events) != len(ids) {
			t.Errorf("took %d events (%v), want the %d that have been read meanwhile", len(events), err, len(ids))
		}
	})
}

func TestASessionThatClosesWhileItsPageIsReadIsForgotten(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 3)
		synctest.Wait()
		release := make(chan struct{})
		w.SetFaults(held("Pages", release))
		var readers []*reader
		for range 10 {
			r := w.open("toto", core.FromStart)
			_, _ = r.Take(nil, 1, 1) // asks
			synctest.Wait()
			readers = append(readers, r)
		}
		for _, r := range readers[1:] {
			r.Close()
		}
		close(release)
		readers[0].want("the one that stayed", ids...)
		// Two were being answered; nobody reads for the eight that were waiting.
		if calls := w.Calls(); calls.Pages != 2 {
			t.Errorf("%d reads of history, want 2", calls.Pages)
		}
		for _, r := range readers[1:] {
			if got, err := r.take(); len(got) > 0 || err != nil {
				t.Errorf("a closed session took %v (%v), want nothing", got, err)
			}
		}
	})
}

func TestHistoryThatIsDiscardedIsReadAgain(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 10)
		synctest.Wait()
		r := w.open("toto", core.FromStart)
		_, _ = r.Take(nil, 1, 1) // asks
		synctest.Wait()
		if events, err := r.Take(nil, 4, 1<<20); len(events) != 4 || err != nil {
			t.Fatalf("took %d events (%v), want 4", len(events), err)
		}
		if !r.More() || r.Settled() {
			t.Errorf("with a page in hand more is %t and settled %t, want true and false", r.More(), r.Settled())
		}
		r.Discard()
		r.want("after the discarded ones", ids[4:]...)
		if calls := w.Calls(); calls.Pages != 2 {
			t.Errorf("%d reads of history, want 2", calls.Pages)
		}
		if r.More() || !r.Settled() {
			t.Errorf("in the end more is %t and settled %t, want false and true", r.More(), r.Settled())
		}
	})
}

// A session that waits for its client is woken, but gets nothing to keep.
func TestASessionThatWaitsGetsNoHistory(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 10)
		synctest.Wait()
		read := make(chan struct{})
		w.SetFaults(coretest.Faults{Fail: func(context.Context, string) error {
			<-read
			return nil
		}})
		var readers []*reader
		for range roomy.Pagers + 1 { // the last of them waits for a free reader of history
			r := w.open("toto", core.FromStart)
			_, _ = r.Take(nil, 1, 1) // asks
			synctest.Wait()
			readers = append(readers, r)
		}
		for _, r := range readers {
			r.Discard()
		}
		close(read)
		synctest.Wait()
		for i, r := range readers {
			if !r.Settled() || r.wakes.Load() == 0 {
				t.Errorf("reader %d is settled: %t, with %d wakes; want to be settled and woken", i, r.Settled(), r.wakes.Load())
			}
			r.want("afterwards", ids...)
		}
	})
}

// readingAhead opens a session that has taken 600 events of its first page of 1000, and asked for the second.
func readingAhead(w *world, faults coretest.Faults) *reader {
	w.Helper()
	r := w.open("toto", core.FromStart)
	_, _ = r.Take(nil, 1, 1) // asks
	synctest.Wait()
	w.SetFaults(faults)
	for _, n := range []int{500, 100} {
		if events, err := r.Take(nil, n, 1<<20); len(events) != n || err != nil {
			w.Fatalf("took %d events (%v), want %d", len(events), err, n)
		}
	}
	synctest.Wait()
	return r
}

func TestTheNextPageIsReadWhileThisOneIsTaken(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 2500)
		synctest.Wait()
		r := readingAhead(w, coretest.Faults{})
		if calls := w.Calls(); calls.Pages != 2 {
			t.Errorf("%d reads of history in the middle of the first page, want 2", calls.Pages)
		}
		r.want("the rest of three pages", ids[600:]...)
		if calls := w.Calls(); calls.Pages != 3 {
			t.Errorf("%d reads of history for 2500 events, want 3", calls.Pages)
		}
	})
}

func TestAPageReadAheadIsDiscardedWithTheOneBefore(t *testing.T) {
	for _, answered := range []bool{true, false} {
		t.Run(fmt.Sprint("answered ", answered), func(t *testing.T) {
			in(t, roomy, func(w *world) {
				ids := w.insert("toto", 2500)
				synctest.Wait()
				release := make(chan struct{})
				if answered {
					close(release)
				}
				r := readingAhead(w, held("Pages", release))
				r.Discard()
				if !answered {
					close(release)
				}
				r.want("after what was discarded", ids[600:]...)
			})
		})
	}
}

func TestWhatIsWrongWithThePageAheadIsSaidAfterTheOneBefore(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 1500)
		synctest.Wait()
		r := readingAhead(w, failing("Pages"))
		for n := 600; n < 1000; {
			events, err := r.Take(nil, 300, 1<<20)
			if err != nil || len(events) == 0 {
				t.Fatalf("took %d events (%v) after %d of a page of 1000", len(events), err, n)
			}
			n += len(events)
		}
		time.Sleep(10 * time.Second)
		if got, err := r.take(); !errors.Is(err, core.ErrUnavailable) || len(got) > 0 {
			t.Errorf("took %s with %v, want nothing with %v", brief(got), err, core.ErrUnavailable)
		}
		w.SetFaults(coretest.Faults{})
		time.Sleep(10 * time.Second)
		r.want("when it can be read", ids[1000:]...)
	})
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 1500)
		synctest.Wait()
		r := readingAhead(w, coretest.Faults{Fail: func(_ context.Context, method string) error {
			if method == "Pages" {
				w.Delete("toto", 1200)
			}
			return nil
		}})
		events, err := r.Take(nil, 1000, 1<<20)
		if len(events) != 400 || err != nil {
			t.Errorf("took %d events (%v), want the rest of the first page", len(events), err)
		}
		r.wantReset("the second page", core.ResetError{Reason: core.Pruned, Oldest: ids[1199], Newest: ids[1499]})
		r.want("after the reset", ids[1200:]...)
	})
}

func TestNobodyReadsAheadWhileOthersWait(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.insert("toto", 2500)
		synctest.Wait()
		r := w.open("toto", core.FromStart)
		_, _ = r.Take(nil, 1, 1) // asks
		synctest.Wait()
		release := make(chan struct{})
		w.SetFaults(held("Pages", release))
		_, _ = w.open("toto", core.FromStart).Take(nil, 1, 1) // asks
		synctest.Wait()
		for range 3 {
			_, _ = r.Take(nil, 300, 1<<20)
		}
		synctest.Wait()
		if calls := w.Calls(); calls.Pages != 2 {
			t.Errorf("%d reads of history, want 2, none of them ahead", calls.Pages)
		}
		close(release)
	})
}

// A client stalls while its page cannot be read, and takes again when it can be: nothing else would wake its session.
func TestAFailureOfAPageThatIsNotWantedAnyMoreIsForgotten(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 3)
		synctest.Wait()
		w.SetFaults(failing("Pages"))
		reader := w.open("toto", core.FromStart)
		if _, err := reader.Take(nil, 10, 1<<20); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		reader.Discard()
		w.SetFaults(coretest.Faults{})
		time.Sleep(time.Minute)
		reader.want("after the failure", ids...)
	})
}
