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

// One damaged row must not keep the history of others from being read with it.
func TestAPageThatCannotBeReadFailsItsSessionsAlone(t *testing.T) {
	in(t, roomy, func(w *world) {
		want := map[string][]int64{}
		for i := range 40 {
			consumer := fmt.Sprint("consumer-", i)
			want[consumer] = w.insert(consumer, 3)
		}
		before := w.insert("toto", 5)
		damaged := w.insert("toto", 1)[0]
		w.insert("toto", 1)
		synctest.Wait()
		release := make(chan struct{})
		w.SetFaults(coretest.Faults{
			Damaged: func(e *core.Event) bool { return e.ID == damaged },
			Fail: func(_ context.Context, method string) error {
				if method == "Pages" {
					<-release
				}
				return nil
			},
		})
		bad := w.open("toto", core.FromStart)
		_, _ = bad.Take(nil, 1, 1) // asks
		readers := map[string]*reader{}
		for consumer := range want {
			readers[consumer] = w.open(consumer, core.FromStart)
			_, _ = readers[consumer].Take(nil, 1, 1) // asks
		}
		start := time.Now()
		close(release)
		for consumer, r := range readers {
			r.want(consumer, want[consumer]...)
		}
		if waited := time.Since(start); waited > 0 {
			t.Errorf("the others waited %v", waited)
		}
		if got, err := bad.take(); !slices.Equal(got, before) || !errors.Is(err, core.ErrUnavailable) {
			t.Errorf("got %v and %v, want what is before the damaged one, and %v", got, err, core.ErrUnavailable)
		}
		time.Sleep(time.Minute)
		if got, err := bad.take(); !errors.Is(err, core.ErrUnavailable) || len(got) > 0 {
			t.Errorf("at the damaged one: %v and %v, want nothing and %v", got, err, core.ErrUnavailable)
		}
		before2 := w.Calls().Pages
		time.Sleep(time.Hour)
		if n := w.Calls().Pages - before2; n > 3600 {
			t.Errorf("%d reads in an hour for a page that cannot be read, want a pause between them", n)
		}
		w.SetFaults(coretest.Faults{})
		time.Sleep(10 * time.Second)
		bad.want("once it is mended", damaged, damaged+1)
	})
}

// A read that is split may also fail for a reason of its own halfway: who has no answer yet asks again, once.
func TestASplitReadThatFailsHalfwayIsAskedForAgain(t *testing.T) {
	limits := roomy
	limits.Pagers = 1
	in(t, limits, func(w *world) {
		want := map[string][]int64{}
		for i := range 8 {
			consumer := fmt.Sprint("consumer-", i)
			want[consumer] = w.insert(consumer, 3)
		}
		synctest.Wait()
		release, reads := make(chan struct{}), 0
		w.SetFaults(coretest.Faults{Fail: func(_ context.Context, method string) error {
			if method != "Pages" {
				return nil
			}
			<-release
			switch reads++; reads {
			case 2, 3: // all eight, and the first four of them
				return core.ErrUnreadable
			case 5: // the third and the fourth, after two were answered
				return coretest.ErrLost
			}
			return nil
		}})
		keeper := w.open("toto", core.FromStart) // has the reader while the others gather
		_, _ = keeper.Take(nil, 1, 1)
		synctest.Wait()
		readers := map[string]*reader{}
		for consumer := range want {
			readers[consumer] = w.open(consumer, core.FromStart)
			_, _ = readers[consumer].Take(nil, 1, 1) // asks
		}
		queries := w.Calls().Queries
		close(release)
		time.Sleep(time.Minute)
		for consumer, r := range readers {
			r.want(consumer, want[consumer]...)
		}
		// All, four, two, two, and at last the six that had no answer.
		if got, want := w.Calls().Queries-queries, 8+4+2+2+6; got != want {
			t.Errorf("asked for %d pages, want %d", got, want)
		}
	})
}

// A damaged row must not stop the live end either.
func TestALiveEventThatCannotBeReadStopsNobody(t *testing.T) {
	for name, crowded := range map[string]bool{"few consumers": false, "many consumers": true} {
		t.Run(name, func(t *testing.T) {
			in(t, roomy, func(w *world) {
				if crowded {
					crowd(w)
				}
				toto, titi := w.open("toto", core.FromNow), w.open("titi", core.FromNow)
				w.SetFaults(coretest.Faults{Damaged: func(e *core.Event) bool { return e.Type == "damaged" }})
				tx := w.Begin()
				first := tx.Insert("titi", "insert", `1`)
				tx.Insert("toto", "damaged", `2`)
				third := tx.Insert("titi", "insert", `3`)
				tx.Commit()
				start := time.Now()
				titi.want("somebody else", first, third)
				if waited := time.Since(start); waited > 0 || w.hub.Down() != "" {
					t.Errorf("somebody else waited %v, and the hub is down: %q", waited, w.hub.Down())
				}
				if got, err := toto.take(); !errors.Is(err, core.ErrUnavailable) || len(got) > 0 {
					t.Errorf("its consumer got %v and %v, want nothing and %v", got, err, core.ErrUnavailable)
				}
			})
		})
	}
}

func TestALargeEventIsLeftToHistory(t *testing.T) {
	in(t, roomy, func(w *world) {
		readers := make([]*reader, 20)
		for i := range readers {
			readers[i] = w.open("toto", core.FromNow)
		}
		other := w.open("titi", core.FromNow)
		tx := w.Begin()
		first := tx.Insert("toto", "insert", `1`)
		huge := tx.Insert("toto", "insert", large(4<<20))
		mine := tx.Insert("titi", "insert", `1`)
		last := tx.Insert("toto", "insert", `1`)
		release := make(chan struct{})
		w.SetFaults(held("Pages", release))
		tx.Commit()
		other.want("while the large one is on its way", mine)
		for _, r := range readers {
			_, _ = r.Take(nil, 1, 1) // asks
		}
		close(release)
		for _, r := range readers {
			r.want("all, in order", first, huge, last)
		}
		if calls := w.Calls(); calls.Queries > 4 {
			t.Errorf("%d pages were read for 20 sessions of the same position, want few", calls.Queries)
		}
	})
}

func TestAnOversizedEventIsSaidAndSkipped(t *testing.T) {
	limits := roomy
	limits.TailBytes = 1
	in(t, limits, func(w *world) {
		w.SetFaults(coretest.Faults{MaxPayload: 2 << 20})
		r := w.open("toto", core.FromNow)
		tx := w.Begin()
		first := tx.Insert("toto", "insert", `1`)
		huge := tx.Insert("toto", "insert", large(4<<20))
		last := tx.Insert("toto", "insert", `1`)
		tx.Commit()
		r2 := w.open("toto", core.FromStart)
		for what, r := range map[string]*reader{"live": r, "history": r2} {
			got, err := r.take()
			var reset *core.ResetError
			if !errors.As(err, &reset) || *reset != (core.ResetError{Reason: core.Oversized, Oldest: huge, Newest: last}) ||
				reset.Resume() != huge || !slices.Equal(got, []int64{first}) {
				t.Fatalf("%s: got %v and %v, want %d and to be told of %d", what, got, err, first, huge)
			}
			r.want(what+", afterwards", last)
		}
		a := w.poll(w.Context(), core.Poll{After: first, Limit: 10})
		var reset *core.ResetError
		if !errors.As(a.err, &reset) || reset.Reason != core.Oversized {
			t.Errorf("a poll was answered with %v, want to be told", a.err)
		}
	})
}
