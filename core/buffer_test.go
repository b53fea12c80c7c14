package core_test

import (
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

// cramped are limits that leave room for little history: all but the newest event.
func cramped() core.Limits {
	limits := roomy
	limits.TailBytes, limits.BufferBytes = 1, 32<<20
	return limits
}

func large(n int) string { return `"` + strings.Repeat("x", n) + `"` }

// However many sessions there are, and however long it takes until they take what was read for them.
func TestHistoryThatNobodyTakesHoldsBackTheRest(t *testing.T) {
	in(t, cramped(), func(w *world) {
		var want [2]map[string]int64
		for n := range want {
			want[n] = map[string]int64{}
			for i := range 20 {
				consumer := fmt.Sprint("consumer-", i)
				want[n][consumer] = w.Insert(consumer, "insert", large(2<<20))
			}
		}
		w.insert("titi", 1)
		synctest.Wait()
		w.SetFaults(coretest.Faults{MaxPages: 1, MaxPageEvents: 1})
		readers := make([]*reader, 20)
		for i := range readers {
			readers[i] = w.open(fmt.Sprint("consumer-", i), core.FromStart)
			_, _ = readers[i].Take(nil, 1, 1) // asks
		}
		synctest.Wait()
		if bytes := w.hub.Stats().BufferBytes; bytes < 24<<20 || bytes > 32<<20 {
			t.Errorf("%d bytes were read and not taken, want three quarters of 32 MB, and what two readers had begun", bytes)
		}
		for _, r := range readers[:5] {
			r.Close()
		}
		for _, r := range readers[5:12] {
			r.Discard()
		}
		got := make([][]int64, len(readers))
		for range 2 * len(readers) { // in each round somebody holds a page
			for i, r := range readers[5:] {
				ids, err := r.take()
				if err != nil {
					t.Fatal(err)
				}
				got[5+i] = append(got[5+i], ids...)
			}
		}
		for i := 5; i < len(got); i++ {
			consumer := fmt.Sprint("consumer-", i)
			if !slices.Equal(got[i], []int64{want[0][consumer], want[1][consumer]}) {
				t.Errorf("%s got %v, want %d and %d", consumer, got[i], want[0][consumer], want[1][consumer])
			}
		}
		for _, r := range readers {
			r.Close()
		}
		if bytes := w.hub.Stats().BufferBytes; bytes != 0 {
			t.Errorf("%d bytes are held in the end, want none", bytes)
		}
	})
}

// Or one tenant with clients that do not read would keep all others from their history.
func TestOneConsumerTakesAQuarterOfTheBuffer(t *testing.T) {
	in(t, cramped(), func(w *world) {
		for range 12 {
			w.Insert("toto", "insert", large(1<<20))
		}
		mine := w.insert("titi", 3)
		w.insert("last", 1)
		synctest.Wait()
		for i := range 12 { // each from a position of its own, so that none can share a page
			r := w.open("toto", int64(i))
			_, _ = r.Take(nil, 1, 1) // asks
		}
		synctest.Wait()
		if bytes := w.hub.Stats().BufferBytes; bytes < 8<<20 || bytes > 16<<20 {
			t.Errorf("%d bytes are held for clients of one consumer, want about a quarter of 32 MB", bytes)
		}
		w.open("titi", core.FromStart).want("somebody else", mine...)
		a := w.poll(w.Context(), core.Poll{Limit: 10, Wait: time.Minute})
		if !errors.Is(a.err, core.ErrBufferFullOfConsumer) || a.in != 0 {
			t.Errorf("a poll of that consumer ended with %v after %v, want %v at once", a.err, a.in, core.ErrBufferFullOfConsumer)
		}
		w.poll(w.Context(), core.Poll{Consumer: "titi", Limit: 10}).want(t, 0, 16, false, mine...)
	})
}

// What was taken counts until the reader comes back: only then is it known to be written.
func TestWhatIsTakenCountsUntilTheNextTake(t *testing.T) {
	in(t, cramped(), func(w *world) {
		w.Insert("toto", "insert", large(1<<20))
		w.insert("titi", 1)
		synctest.Wait()
		held := func() int { return w.hub.Stats().BufferBytes }
		r := w.open("toto", core.FromStart)
		_, _ = r.Take(nil, 1, 1) // asks
		synctest.Wait()
		events, err := r.Take(nil, 10, 1<<20)
		if len(events) != 1 || err != nil || held() < 1<<20 {
			t.Fatalf("took %d events (%v) and %d bytes are held, want one and its megabyte", len(events), err, held())
		}
		if err := r.Keep(1000, nil); err != nil || held() != 1000 {
			t.Errorf("the reader keeps 1000 bytes (%v), and %d are held", err, held())
		}
		if err := r.Keep(0, events[0]); err != nil || held() != 1<<20+2 {
			t.Errorf("the reader keeps the event's encoding (%v), and %d bytes are held", err, held())
		}
		if err := r.Keep(500, events[0]); err != nil || held() != 1<<20+502 {
			t.Errorf("the reader keeps both (%v), and %d bytes are held", err, held())
		}
		if _, err := r.Take(nil, 10, 1<<20); err != nil || held() != 0 {
			t.Errorf("at the next take (%v) %d bytes are held, want none", err, held())
		}
	})
}

func TestAnEncodingThatSessionsShareCountsOnce(t *testing.T) {
	in(t, roomy, func(w *world) {
		readers := make([]*reader, 50)
		for i := range readers {
			readers[i] = w.open("toto", core.FromNow)
		}
		w.Insert("toto", "insert", large(1<<19))
		synctest.Wait()
		for _, r := range readers {
			events, err := r.Take(nil, 1, 1)
			if len(events) != 1 || err != nil {
				t.Fatalf("took %d events (%v), want one", len(events), err)
			}
			if err := r.Keep(0, events[0]); err != nil {
				t.Fatal(err)
			}
		}
		if bytes := w.hub.Stats().BufferBytes; bytes != 1<<19+2 {
			t.Errorf("%d bytes are held, want the event's", bytes)
		}
		for _, r := range readers {
			r.Close()
		}
		if bytes := w.hub.Stats().BufferBytes; bytes != 0 {
			t.Errorf("%d bytes are held in the end, want none", bytes)
		}
	})
}

func TestAStreamThatWouldKeepTooMuchIsToldToEnd(t *testing.T) {
	in(t, cramped(), func(w *world) {
		var err error
		for n := 0; err == nil; n++ {
			if n > 20 {
				t.Fatal("20 streams keep a megabyte each of a quarter of 32")
			}
			err = w.open("toto", core.FromNow).Keep(1<<20, nil)
		}
		if !errors.Is(err, core.ErrBufferFullOfConsumer) {
			t.Errorf("too much for a consumer is %v, want %v", err, core.ErrBufferFullOfConsumer)
		}
		for i := 0; i < 100 && !errors.Is(err, core.ErrBufferFull); i++ {
			err = w.open(fmt.Sprint("consumer-", i/4), core.FromNow).Keep(1<<20, nil)
		}
		if bytes := w.hub.Stats().BufferBytes; !errors.Is(err, core.ErrBufferFull) || bytes > 32<<20 {
			t.Errorf("%d bytes are held when there is an end of it (%v), want no more than 32 MB", bytes, err)
		}
	})
}

// A client that receives nothing holds its answer. Others of its consumer are told to come back later, and no other
// consumer notices.
func TestAnswersThatAreNotReceivedCount(t *testing.T) {
	in(t, cramped(), func(w *world) {
		w.insert("toto", 1)
		w.Insert("toto", "insert", large(1<<20))
		mine := w.insert("titi", 1)
		synctest.Wait()
		var batches []core.Batch
		var err error
		for err == nil {
			var batch core.Batch
			if batch, err = w.hub.Poll(w.Context(), core.Poll{Consumer: "toto", Limit: 10, Wait: time.Second}); err == nil {
				batch.Built(1 << 20)
				batches = append(batches, batch)
			}
		}
		if n := len(batches); !errors.Is(err, core.ErrBufferFullOfConsumer) || n < 4 || n > 10 {
			t.Errorf("%d answers of a megabyte before %v, want a quarter of 32 MB and %v", n, err, core.ErrBufferFullOfConsumer)
		}
		w.poll(w.Context(), core.Poll{Consumer: "titi", Limit: 10}).want(t, 0, 3, false, mine...)
		for _, batch := range batches {
			batch.Release()
		}
		if bytes := w.hub.Stats().BufferBytes; bytes != 0 {
			t.Errorf("%d bytes are held in the end, want none", bytes)
		}
		if a := w.poll(w.Context(), core.Poll{Limit: 10}); a.err != nil || len(a.ids) == 0 {
			t.Errorf("afterwards a poll got %d events (%v)", len(a.ids), a.err)
		}
	})
}

func TestSessionsThatAskForTheSameShareAPage(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 30)
		synctest.Wait()
		release := make(chan struct{})
		w.SetFaults(held("Pages", release))
		readers := make([]*reader, 500)
		for i := range readers {
			readers[i] = w.open("toto", core.FromStart)
			_, _ = readers[i].Take(nil, 1, 1) // asks
		}
		close(release)
		for _, r := range readers {
			r.want("all of them", ids...)
		}
		if calls := w.Calls(); calls.Queries > 4 {
			t.Errorf("%d pages were read for 500 sessions of the same position, want one for each reader of history", calls.Queries)
		}
	})
}

// Followers of a topic have its events in their pages, together with their own.
func TestAnEventOnPagesOfManyCountsOnce(t *testing.T) {
	in(t, cramped(), func(w *world) {
		w.Insert("team", "insert", large(1<<18))
		w.insert("titi", 1)
		synctest.Wait()
		sessions := make([]*core.Session, 20)
		for i := range sessions {
			s, err := w.hub.Open(fmt.Sprint("consumer-", i), core.FromStart, nil, func() {}, "team")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			sessions[i] = s
		}
		release := make(chan struct{})
		w.SetFaults(held("Pages", release))
		for _, s := range sessions {
			_, _ = s.Take(nil, 1, 1) // asks
		}
		close(release)
		synctest.Wait()
		// The first reader of history began with the first, and the other with those that had come until then.
		if bytes := w.hub.Stats().BufferBytes; bytes < 1<<19 || bytes > 3<<20 {
			t.Errorf("%d bytes are held of an event of 512 KB, encoding included, that 20 have on their pages, want it once for each read", bytes)
		}
		for i, s := range sessions {
			if events, err := s.Take(nil, 10, 2<<20); len(events) != 1 || err != nil {
				t.Errorf("session %d took %d events (%v), want the one", i, len(events), err)
			}
			_, _ = s.Take(nil, 1, 1) // it is written
		}
		if bytes := w.hub.Stats().BufferBytes; bytes != 0 {
			t.Errorf("%d bytes are held in the end, want none", bytes)
		}
	})
}

func TestTypesAreChosenByTheRead(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.insert("toto", 150)
		paid := w.Insert("toto", "paid", `1`)
		w.insert("toto", 40)
		synctest.Wait()
		r := w.open("toto", core.FromStart, "paid")
		r.want("the paid one", paid)
		stats := w.hub.Stats()
		if stats.PageEvents != 1 {
			t.Errorf("%d events were read for it, want it alone", stats.PageEvents)
		}
		if r.Cursor() != paid+40 {
			t.Errorf("the cursor is %d, want %d, past what was not asked for", r.Cursor(), paid+40)
		}
	})
}

// A session of several addresses is one loop: it merges them by id, in memory and in history.
func TestASessionOfSeveralAddresses(t *testing.T) {
	for name, tail := range map[string]int{"in memory": 64 << 20, "in history": 1} {
		t.Run(name, func(t *testing.T) {
			limits := roomy
			limits.TailBytes = tail
			in(t, limits, func(w *world) {
				s, err := w.hub.Open("toto", core.FromNow, nil, func() {}, "team-1", "team-2")
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				var want []int64
				for i := range 300 {
					address := []string{"toto", "team-1", "team-2", "team-3"}[i*i*7%11%4]
					if id := w.Insert(address, "insert", `1`); address != "team-3" {
						want = append(want, id)
					}
					if i%50 == 0 {
						synctest.Wait()
					}
				}
				r := &reader{Session: s, w: w}
				var got []int64
				for range 1000 {
					ids, err := r.take()
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, ids...)
				}
				if !slices.Equal(got, want) {
					t.Errorf("got %s, want %s", brief(got), brief(want))
				}
			})
		})
	}
}
