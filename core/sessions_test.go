package core_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
)

func TestSessionsAreListedWithHowFarBehindTheyAre(t *testing.T) {
	in(t, roomy, func(w *world) {
		before := time.Now()
		time.Sleep(time.Second)
		ids := w.insert("toto", 5)
		synctest.Wait()
		live, behind := w.open("toto", core.FromNow), w.open("toto", ids[1])
		behind.Via(core.SSE)
		other, err := w.hub.Open("titi", core.FromNow, nil, func() {}, "team-7")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		live.want("what is new for the one that is live")
		newest := w.insert("tata", 1)[0] // is for nobody, and nobody is behind for it
		synctest.Wait()

		list, total := w.hub.List("", 10)
		got := fmt.Sprint(total)
		for _, s := range list {
			got += fmt.Sprintf("; %s %v %s at %d behind %d", s.Consumer, s.Topics, s.Transport, s.Cursor, s.Behind)
			if s.Since != before.Add(time.Second) {
				t.Errorf("since %v, want %v", s.Since, before.Add(time.Second))
			}
		}
		want := fmt.Sprintf("3; toto [] sse at %d behind %d; toto [] poll at %d behind 0; titi [team-7] poll at %[3]d behind 0", ids[1], newest-ids[1], newest)
		if got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
		// A reader of a topic is a session of its own consumer alone.
		for consumer, want := range map[string]int{"toto": 2, "titi": 1, "team-7": 0, "nobody": 0} {
			if list, total := w.hub.List(consumer, 10); len(list) != want || total != want {
				t.Errorf("%s: %d of %d sessions, want %d", consumer, len(list), total, want)
			}
		}
	})
}

func TestTheListIsBoundedAndKeepsThoseFurthestBehind(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 400)
		synctest.Wait()
		for i := range ids { // in an order that is neither that of the cursors nor its reverse
			w.open("toto", ids[(i*7)%len(ids)])
		}
		list, total := w.hub.List("", 3)
		if total != 400 || len(list) != 3 {
			t.Fatalf("%d of %d, want 3 of 400", len(list), total)
		}
		for i, s := range list {
			if s.Cursor != ids[i] {
				t.Errorf("number %d is at %d, want %d", i, s.Cursor, ids[i])
			}
		}
		if list, total := w.hub.List("", 0); len(list) != 0 || total != 400 {
			t.Errorf("%d of %d, want 0 of 400", len(list), total)
		}
	})
}

func TestASessionThatIsEndedIsWokenAndTold(t *testing.T) {
	in(t, roomy, func(w *world) {
		r, other := w.open("toto", core.FromNow), w.open("toto", core.FromNow)
		list, _ := w.hub.List("toto", 1)
		if !w.hub.End(list[0].ID) || w.hub.End(list[0].ID+10) {
			t.Error("want the session that there is ended, and no other")
		}
		if r.wakes.Load() != 1 || other.wakes.Load() != 0 {
			t.Errorf("%d and %d wakes, want 1 and 0", r.wakes.Load(), other.wakes.Load())
		}
		for range 2 {
			if _, err := r.Take(nil, 1, 1); !errors.Is(err, core.ErrEnded) || !r.Ended() {
				t.Errorf("got %v, want %v", err, core.ErrEnded)
			}
		}
		other.want("the other one", w.insert("toto", 1)...)
	})
}

func TestAPollThatIsEndedAnswers(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("titi", 1)
		synctest.Wait()
		answers := make(chan answer, 1)
		go func() {
			answers <- w.poll(context.Background(), core.Poll{After: core.FromNow, Limit: 2, Wait: time.Minute})
		}()
		time.Sleep(3 * time.Second)
		if n := w.hub.EndAll("toto"); n != 1 {
			t.Errorf("%d were ended, want 1", n)
		}
		(<-answers).want(t, 3*time.Second, ids[0], false)
		if n := w.hub.EndAll("toto"); n != 0 {
			t.Errorf("%d were ended, want none", n)
		}
	})
}

func TestWhoHoldsEventsBackIsInTheStatus(t *testing.T) {
	in(t, roomy, func(w *world) {
		writer := w.Begin()
		writer.Insert("toto", "insert", `1`)
		w.insert("toto", 1)
		time.Sleep(5 * time.Second)
		if s := w.hub.Status(); s.HeldBackBy == 0 || time.Since(s.HeldBack) < 4*time.Second {
			t.Errorf("held back by %d since %v, want somebody, for 4 s", s.HeldBackBy, s.HeldBack)
		}
		writer.Commit()
		time.Sleep(2 * time.Second)
		if s := w.hub.Status(); s.HeldBackBy != 0 || !s.HeldBack.IsZero() {
			t.Errorf("held back by %d since %v, want by nobody", s.HeldBackBy, s.HeldBack)
		}
	})
}
