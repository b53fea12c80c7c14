package core_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
)

// payloads drains a session as reader.take does, and returns what it was given as ID=PAYLOAD.
func payloads(t *testing.T, r *reader, limit int) (got []string) {
	t.Helper()
	for {
		synctest.Wait()
		events, err := r.Take(nil, limit, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			got = append(got, fmt.Sprintf("%d=%s", e.ID, e.Payload))
		}
		if len(events) == 0 && r.Settled() {
			return got
		}
	}
}

func TestARedactedPayloadIsForgotten(t *testing.T) {
	for name, tailBytes := range map[string]int{"in memory": 64 << 20, "on a page at hand": 1} {
		t.Run(name, func(t *testing.T) {
			limits := roomy
			limits.TailBytes = tailBytes
			in(t, limits, func(w *world) {
				synctest.Wait()
				slow, quick := w.open("toto", core.FromNow), w.open("toto", core.FromNow)
				ids := w.insert("toto", 4)
				synctest.Wait()
				quick.want("one that keeps up", ids...)
				if name == "on a page at hand" {
					_, _ = slow.Take(nil, 1, 1<<20)
					synctest.Wait()
				}
				first, _ := slow.Take(nil, 1, 1<<20)

				w.Redact(ids[2])
				synctest.Wait()
				got := payloads(t, slow, 1)
				if len(first) != 1 || len(got) != 4 {
					t.Fatalf("got %d events before the redaction and %q after, want 1 and 4", len(first), got)
				}
				for _, g := range got {
					if id, payload, _ := strings.Cut(g, "="); (payload == "null") != (id == fmt.Sprint(ids[2])) {
						t.Errorf("got %s after event %d was redacted", g, ids[2])
					}
				}
				quick.want("one that had it is told", w.hub.Status().Position)

				// A writer's own event of that type is not trusted.
				liar := w.Begin()
				liar.Amend("toto", core.RedactedType, `{}`, ids[3])
				liar.Commit()
				synctest.Wait()
				replay := w.open("toto", ids[2])
				if got := payloads(t, replay, 10); len(got) == 0 || strings.HasSuffix(got[0], "=null") {
					t.Errorf("after a redaction that was none: got %q, want the payload", got)
				}
			})
		})
	}
}

// What a writer calls a redaction of another address's event has no influence on that: least of all is it kept in memory
// beyond the bound.
func TestARedactionOfAnothersEventForgetsNothing(t *testing.T) {
	limits := roomy
	limits.TailBytes = 4 << 10
	in(t, limits, func(w *world) {
		synctest.Wait()
		slow := w.open("toto", core.FromNow)
		w.open("titi", core.FromNow)
		ids := w.insert("toto", 2)
		synctest.Wait()
		liar := w.Begin()
		liar.Amend("titi", core.RedactedType, `{}`, ids[0])
		liar.Amend("titi", core.RedactedType, `{}`, ids[1])
		liar.Commit()
		synctest.Wait()
		if got := payloads(t, slow, 1); len(got) != 2 || w.Calls().Pages != 0 {
			t.Errorf("got %q and %d pages, want both events from memory", got, w.Calls().Pages)
		}
		w.insert("titi", 100)
		synctest.Wait()
		w.open("toto", ids[0]).want("after more than fits", ids[1])
		if w.Calls().Pages == 0 {
			t.Error("an event was kept in memory that more recent ones leave no room for")
		}
	})
}

// A database that is replaced by an older one has not come to the redactions that were read of it.
func TestHistoryIsReadAfterARestoreToBeforeARedaction(t *testing.T) {
	in(t, roomy, func(w *world) {
		w.open("toto", core.FromNow)
		ids := w.insert("toto", 3)
		synctest.Wait()
		w.Redact(ids[2])
		synctest.Wait()
		w.Restore(ids[1])
		time.Sleep(5 * time.Second)
		r := w.open("toto", core.FromStart)
		var got []int64
		for range 10 {
			synctest.Wait()
			events, err := r.Take(nil, 10, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				got = append(got, e.ID)
			}
		}
		if !slices.Equal(got, ids[:2]) {
			t.Errorf("got %v in %d pages, want %v", got, w.Calls().Pages, ids[:2])
		}
	})
}

func TestCurrentLeavesOutOfHistoryWhatIsAmended(t *testing.T) {
	in(t, roomy, func(w *world) {
		ids := w.insert("toto", 300)
		tx := w.Begin()
		for _, id := range ids[:200] {
			tx.Amend("toto", "corrected", `0`, id)
		}
		tx.Commit()
		synctest.Wait()
		all, current := w.open("toto", core.FromStart), w.open("toto", core.FromStart)
		current.SetView(core.View{Current: true})
		got, err := all.take()
		if err != nil || len(got) != 500 {
			t.Fatalf("all: %d events (%v), want 500", len(got), err)
		}
		current.want("the current ones", got[200:]...)
		before := w.insert("toto", 1)
		amending := w.Begin()
		id := amending.Amend("toto", "corrected", `0`, before[0])
		amending.Commit()
		current.want("live, both", before[0], id)
	})
}

func TestEncodingsAreSharedInTheFormatsOfSessions(t *testing.T) {
	in(t, roomy, func(w *world) {
		r := w.open("toto", core.FromNow)
		w.open("titi", core.FromNow).SetView(core.View{Format: core.FormatEvent})
		w.insert("toto", 1)
		synctest.Wait()
		events, err := r.Take(nil, 10, 1<<20)
		if err != nil || len(events) != 1 {
			t.Fatalf("got %v, %v", events, err)
		}
		shares := []bool{events[0].Shares(core.FormatPayload), events[0].Shares(core.FormatEvent), events[0].Shares(core.FormatCloudEvent)}
		if !slices.Equal(shares, []bool{true, true, false}) {
			t.Errorf("shares %v, want the formats that sessions have", shares)
		}
	})
}
