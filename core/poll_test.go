package core_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

// answer is a batch that says when it came.
type answer struct {
	core.Batch
	ids []int64
	err error
	in  time.Duration
}

func (w *world) poll(ctx context.Context, p core.Poll) answer {
	if p.Consumer == "" {
		p.Consumer = "toto"
	}
	start := time.Now()
	batch, err := w.hub.Poll(ctx, p)
	batch.Release()
	a := answer{Batch: batch, err: err, in: time.Since(start)}
	for _, e := range batch.Events {
		a.ids = append(a.ids, e.ID)
	}
	return a
}

func (a answer) want(t *testing.T, in time.Duration, cursor int64, more bool, ids ...int64) {
	t.Helper()
	if a.err != nil || a.in != in || a.Cursor != cursor || a.More != more || !slices.Equal(a.ids, ids) {
		t.Errorf("after %v: %v, cursor %d, more %t, %v; want after %v: %v, cursor %d, more %t",
			a.in, a.ids, a.Cursor, a.More, a.err, in, ids, cursor, more)
	}
}

func TestPollWalksThroughHistoryAndWaitsAtItsEnd(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 5)
		synctest.Wait()
		const wait = 25 * time.Second
		w.poll(w.Context(), core.Poll{Limit: 2, Wait: wait}).want(t, 0, ids[1], true, ids[:2]...)
		w.poll(w.Context(), core.Poll{After: ids[1], Limit: 3, Wait: wait}).want(t, 0, ids[4], false, ids[2:]...)
		w.poll(w.Context(), core.Poll{After: ids[4], Limit: 2, Wait: wait}).want(t, wait, ids[4], false)
		w.poll(w.Context(), core.Poll{After: ids[4], Limit: 2}).want(t, 0, ids[4], false)
		w.poll(w.Context(), core.Poll{After: core.FromNow, Limit: 2}).want(t, 0, ids[4], false)
		if n := w.hub.Sessions(); n != 0 {
			t.Errorf("%d sessions are left, want none", n)
		}
	})
}

func TestAWaitingPollIsAnsweredByTheNextEvent(t *testing.T) {
	in(t, roomy, func(w *world) {
		go func() {
			time.Sleep(7 * time.Second)
			w.insert("titi", 1)
			time.Sleep(3 * time.Second)
			w.insert("toto", 1)
		}()
		w.poll(w.Context(), core.Poll{After: core.FromNow, Limit: 2, Wait: 25 * time.Second}).want(t, 10*time.Second, 2, false, 2)
	})
}

func TestAnIdleConsumersCursorMovesOn(t *testing.T) {
	in(t, roomy, func(w *world) {
		others := w.insert("titi", 5)
		synctest.Wait()
		w.poll(w.Context(), core.Poll{Limit: 2}).want(t, 0, others[4], false)
		go w.insert("titi", 1)
		w.poll(w.Context(), core.Poll{After: others[4], Limit: 2, Wait: time.Second}).want(t, time.Second, others[4]+1, false)
	})
}

func TestPollSkipsTypesThroughAllOfHistory(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.insert("toto", 2500)
		want := w.Insert("toto", "paid", `{}`)
		newest := w.insert("toto", 1)[0]
		synctest.Wait()
		paid := core.Types{"paid"}
		w.poll(w.Context(), core.Poll{Types: paid, Limit: 2, Wait: time.Second}).want(t, 0, newest, false, want)
		w.poll(w.Context(), core.Poll{After: newest, Types: paid, Limit: 2}).want(t, 0, newest, false)

		// At once means after a page: the cursor says how far that led.
		a := w.poll(w.Context(), core.Poll{Types: paid, Limit: 2})
		if a.err != nil || len(a.ids) == 0 && (a.Cursor == 0 || !a.More) {
			t.Errorf("polling at once gave %v, cursor %d, more %t, %v; want an event or some way towards it", a.ids, a.Cursor, a.More, a.err)
		}
	})
}

// Or a consumer that waits for a rare type would have all of its history read again and again.
func TestPollsOfATypeThatNeverOccursReadHistoryOnce(t *testing.T) {
	in(t, roomy, func(w *world) {
		newest := w.insert("toto", 2500)[2499]
		w.insert("titi", 1)
		synctest.Wait()
		poll := core.Poll{Types: core.Types{"never"}, Limit: 2}
		for turn := 0; poll.After < newest; turn++ {
			a := w.poll(w.Context(), poll)
			if a.err != nil || len(a.ids) > 0 || a.Cursor <= poll.After {
				t.Fatalf("poll %d after %d gave %v, cursor %d (%v), want none and a cursor that moves on", turn, poll.After, a.ids, a.Cursor, a.err)
			}
			poll.After = a.Cursor
		}
		reads := w.Calls().Pages
		for range 10 {
			a := w.poll(w.Context(), poll)
			if a.err != nil || a.Cursor < poll.After {
				t.Fatalf("after %d: cursor %d (%v)", poll.After, a.Cursor, a.err)
			}
			poll.After = a.Cursor
		}
		if got := w.Calls().Pages - reads; got != 0 {
			t.Errorf("history was read %d times more, want never", got)
		}
	})
}

func TestABatchIsBoundedInBytes(t *testing.T) {
	in(t, roomy, func(w *world) {
		large := `"` + strings.Repeat("x", 400<<10) + `"`
		var ids []int64
		for range 4 {
			ids = append(ids, w.Insert("toto", "insert", large))
		}
		ids = append(ids, w.Insert("toto", "insert", `"`+strings.Repeat("x", 3<<20)+`"`), w.Insert("toto", "insert", `1`))
		synctest.Wait()
		var got []int64
		for cursor, more := int64(0), true; more; {
			a := w.poll(w.Context(), core.Poll{After: cursor, Limit: 1000})
			bytes := 0
			for _, e := range a.Events {
				bytes += len(e.Payload)
			}
			if a.err != nil || len(a.Events) == 0 || bytes > 1<<20 && len(a.Events) > 1 {
				t.Fatalf("a batch of %d events with %d bytes (%v), want up to 1 MiB or one event", len(a.Events), bytes, a.err)
			}
			got, cursor, more = append(got, a.ids...), a.Cursor, a.More
		}
		if !slices.Equal(got, ids) {
			t.Errorf("got %v, want %v", got, ids)
		}
	})
}

func TestPollReportsResets(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 5)
		w.Delete("toto", ids[1])
		synctest.Wait()
		for _, test := range []struct {
			after int64
			want  core.ResetError
		}{
			{0, core.ResetError{Reason: core.Pruned, Oldest: ids[1], Newest: ids[4]}},
			{1000, core.ResetError{Reason: core.Ahead, Oldest: ids[1], Newest: ids[4]}},
		} {
			a := w.poll(w.Context(), core.Poll{After: test.after, Limit: 10, Wait: time.Second})
			var reset *core.ResetError
			if !errors.As(a.err, &reset) || *reset != test.want {
				t.Errorf("after %d: %v, want %v", test.after, a.err, &test.want)
			}
		}
	})
}

// A poll that is over looks at the cursor, whatever has come since it last took something.
func TestAResetMovesTheCursorWhenItIsTaken(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 5)
		w.Delete("toto", ids[1])
		synctest.Wait()
		r := w.open("toto", 0)
		for _, want := range []int64{0, ids[1]} {
			_, err := r.Take(nil, 10, 1<<20)
			if _, reset := errors.AsType[*core.ResetError](err); reset != (want > 0) {
				t.Errorf("took %v, want a reset: %t", err, want > 0)
			}
			synctest.Wait()
			if got := r.Cursor(); got != want {
				t.Errorf("the cursor is %d, want %d", got, want)
			}
		}
	})
}

func TestWaitingPollsAreAnsweredAtShutdown(t *testing.T) {
	in(t, roomy, func(w *world) {
		go func() {
			time.Sleep(3 * time.Second)
			w.hub.Drain()
			w.hub.Drain()
		}()
		p := core.Poll{After: core.FromNow, Limit: 2, Wait: 25 * time.Second}
		w.poll(w.Context(), p).want(t, 3*time.Second, 0, false)
		w.poll(w.Context(), p).want(t, 0, 0, false)
		id := w.insert("toto", 1)
		synctest.Wait()
		w.poll(w.Context(), core.Poll{Limit: 2, Wait: 25 * time.Second}).want(t, 0, id[0], false, id...)
	})
}

func TestAPollEndsWithItsClient(t *testing.T) {
	in(t, roomy, func(w *world) {
		ctx, cancel := context.WithTimeout(w.Context(), 3*time.Second)
		defer cancel()
		a := w.poll(ctx, core.Poll{After: core.FromNow, Limit: 2, Wait: 25 * time.Second})
		if !errors.Is(a.err, context.DeadlineExceeded) || a.in != 3*time.Second {
			t.Errorf("ended with %v after %v, want %v after 3s", a.err, a.in, context.DeadlineExceeded)
		}
		if n := w.hub.Sessions(); n != 0 {
			t.Errorf("%d sessions are left, want none", n)
		}
	})
}

func TestPollSaysThatEventsCannotBeRead(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 1)
		synctest.Wait()
		unavailable := func(what string, p core.Poll, in time.Duration) {
			t.Helper()
			p.Limit = 10
			if a := w.poll(w.Context(), p); !errors.Is(a.err, core.ErrUnavailable) || a.in != in {
				t.Errorf("%s: %v after %v, want %v after %v", what, a.err, a.in, core.ErrUnavailable, in)
			}
		}
		w.SetFaults(failing("Pages"))
		unavailable("history", core.Poll{After: 0, Wait: 25 * time.Second}, 0)
		w.SetFaults(failing("Follow", "Wait"))
		w.Disconnect()
		synctest.Wait()
		// An empty answer would be a lie; what history has is none.
		unavailable("nothing new", core.Poll{After: ids[0], Wait: 10 * time.Second}, 10*time.Second)
		w.poll(w.Context(), core.Poll{After: 0, Limit: 10}).want(t, 0, ids[0], false, ids...)
		w.SetFaults(coretest.Faults{})
		time.Sleep(10 * time.Second)
		w.poll(w.Context(), core.Poll{After: ids[0], Limit: 10}).want(t, 0, ids[0], false)
	})
}

func TestAPollDoesNotWaitForAStoreThatIsOutOfReach(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Second, 3 * time.Second, 25 * time.Second} {
		in(t, roomy, func(w *world) {
			w.insert("toto", 1)
			synctest.Wait()
			w.SetFaults(coretest.Faults{Fail: func(ctx context.Context, method string) error {
				if method == "Pages" || method == "Read" {
					<-ctx.Done()
				}
				return ctx.Err()
			}})
			const noticed = 5*time.Second + 500*time.Millisecond // the health check takes five seconds to say so
			a := w.poll(w.Context(), core.Poll{After: 0, Limit: 10, Wait: wait})
			if !errors.Is(a.err, core.ErrUnavailable) || a.in < wait || a.in > max(wait+2*time.Second, noticed) {
				t.Errorf("wait=%v: %v after %v, want %v within %v", wait, a.err, a.in, core.ErrUnavailable, max(wait+2*time.Second, noticed))
			}
		})
	}
}

func TestPollsAreSessionsWithinTheLimits(t *testing.T) {
	limits := roomy
	limits.SessionsPerConsumer = 1
	in(t, limits, func(w *world) {
		r := w.open("toto", core.FromNow)
		if a := w.poll(w.Context(), core.Poll{Limit: 1}); !errors.Is(a.err, core.ErrTooManySessionsOfConsumer) {
			t.Errorf("one session too many: %v, want %v", a.err, core.ErrTooManySessionsOfConsumer)
		}
		r.Close()
		w.poll(w.Context(), core.Poll{Limit: 1}).want(t, 0, 0, false)

		id := w.insert("toto", 1)[0]
		batch, err := w.hub.Poll(w.Context(), core.Poll{Consumer: "toto", Limit: 1, Wait: time.Second})
		if err != nil || len(batch.Events) != 1 {
			t.Fatalf("%d events (%v), want 1", len(batch.Events), err)
		}
		if a := w.poll(w.Context(), core.Poll{Limit: 1}); !errors.Is(a.err, core.ErrTooManySessionsOfConsumer) {
			t.Errorf("while an answer is written: %v, want %v", a.err, core.ErrTooManySessionsOfConsumer)
		}
		batch.Release()
		w.poll(w.Context(), core.Poll{Limit: 1}).want(t, 0, id, false, id)
	})
}

func TestAPollThatDoesNotWaitKnowsWhatWasCommittedBefore(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.SetFaults(coretest.Faults{LoseRings: true}) // the follower would find the events by itself within a second
		synctest.Wait()
		ids := w.insert("toto", 2)
		w.poll(w.Context(), core.Poll{Limit: 5}).want(t, 0, ids[1], false, ids...)
		ids = append(ids, w.insert("toto", 1)...)
		w.poll(w.Context(), core.Poll{After: ids[1], Limit: 5}).want(t, 0, ids[2], false, ids[2])
		news := w.insert("new", 2)
		w.poll(w.Context(), core.Poll{Consumer: "new", Limit: 5, Wait: time.Minute}).want(t, 0, news[1], false, news...)
		ids = append(ids, w.insert("toto", 1)...)
		w.poll(w.Context(), core.Poll{After: core.FromNow, Limit: 5}).want(t, 0, ids[3], false)
		others := w.insert("titi", 1)
		w.poll(w.Context(), core.Poll{After: ids[3], Limit: 5}).want(t, 0, others[0], false)
	})
}

func TestAPollThatDoesNotWaitIsAnsweredWhenTheStoreIsNotRead(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.SetFaults(coretest.Faults{Fail: func(ctx context.Context, method string) error {
			if method == "Read" {
				<-ctx.Done()
			}
			return ctx.Err()
		}})
		synctest.Wait()
		w.poll(w.Context(), core.Poll{After: core.FromNow, Limit: 5}).want(t, time.Second, 0, false)
	})
}
