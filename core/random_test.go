package core_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

// TestTheWholeWorldAfterEachStep is a random run in small steps. After each of them, when everything has come
// to rest, every session that could read must have got exactly the committed events of its consumer after
// the cursor it began with, up to the watermark.
func TestTheWholeWorldAfterEachStep(t *testing.T) {
	runs := 60
	if testing.Short() {
		runs = 10
	}
	seed := coretest.Seed(t)
	for i := range runs {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		limits := roomy
		limits.TailBytes = 1 << (4 + r.IntN(12))
		in(t, limits, func(w *world) {
			steps := &steps{world: w, r: r}
			steps.calm()
			for n := range 150 {
				what := steps.step()
				synctest.Wait()
				if err := steps.check(); err != nil {
					t.Fatalf("run %d, step %d (%s): %v", i, n, what, err)
				}
			}
			steps.calm()
			if err := steps.check(); err != nil {
				t.Fatalf("run %d, in the end: %v", i, err)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// steps is a random run under way.
type steps struct {
	*world
	r       *rand.Rand
	open    []*coretest.Tx
	nested  map[*coretest.Tx]int // savepoints
	readers []*client
	broken  bool // something that readers need is failing
}

// client is a session, what it got, and where it began.
type client struct {
	*reader
	consumer string
	from     int64
	got      []int64
	slow     bool // takes only one event in a step
}

// step does one thing and says what.
func (s *steps) step() string {
	someone := func() string { return fmt.Sprint("consumer-", s.r.IntN(3)) }
	pick := func() (int, *coretest.Tx) {
		i := s.r.IntN(len(s.open))
		return i, s.open[i]
	}
	forget := func(i int) {
		delete(s.nested, s.open[i])
		s.open = append(s.open[:i], s.open[i+1:]...)
	}
	dice := s.r.IntN(100)
	switch {
	case dice < 30 && len(s.open) > 0:
		_, tx := pick()
		return fmt.Sprint("insert ", tx.Insert(someone(), "insert", `{}`))
	case dice < 40 && len(s.open) > 0:
		i, tx := pick()
		forget(i)
		tx.Commit()
		return "commit"
	case dice < 44 && len(s.open) > 0:
		i, tx := pick()
		forget(i)
		tx.Rollback()
		return "roll back"
	case dice < 48 && len(s.open) > 0:
		_, tx := pick()
		if s.nested == nil {
			s.nested = map[*coretest.Tx]int{}
		}
		if s.nested[tx] > 0 && s.r.IntN(2) == 0 {
			s.nested[tx]--
			tx.RollbackTo()
			return "roll back to a savepoint"
		}
		s.nested[tx]++
		tx.Savepoint()
		return "savepoint"
	case dice < 60:
		return fmt.Sprint("insert and commit ", s.Insert(someone(), "insert", `{}`))
	case dice < 68:
		s.open = append(s.open, s.Begin())
		return "begin"
	case dice < 76:
		return s.connect(someone())
	case dice < 84 && len(s.readers) > 0:
		i := s.r.IntN(len(s.readers))
		s.readers[i].Close()
		s.readers = append(s.readers[:i], s.readers[i+1:]...)
		return "a client leaves"
	case dice < 86 && len(s.readers) > 0:
		s.readers[s.r.IntN(len(s.readers))].Discard()
		return "a client stalls"
	case dice < 89:
		s.broken = true
		s.SetFaults([]coretest.Faults{
			failing("Pages"), failing("Follow", "Read"), failing("FillPayloads", "Wait"),
			{LoseRings: true}, {RingAfter: 100 * time.Millisecond}, hanging("Pages"), hanging("Read"),
		}[s.r.IntN(7)])
		return "a fault"
	case dice < 91:
		s.broken = true
		s.Disconnect()
		return "disconnect"
	case dice < 95:
		s.calm()
		return "no faults"
	default:
		time.Sleep(time.Duration(s.r.IntN(3000)) * time.Millisecond)
		return "time passes"
	}
}

// calm ends the faults and gives everybody the time to get over them.
func (s *steps) calm() {
	s.SetFaults(coretest.Faults{
		MaxPages: s.r.IntN(3), MaxPayloads: s.r.IntN(3), MaxPageEvents: 5 * s.r.IntN(3), MaxEvents: s.r.IntN(4),
	})
	time.Sleep(6 * time.Minute) // a page that hangs is given up after five
	synctest.Wait()
	s.broken = false
}

// connect opens a session from the start, from now, or from an event that another one got.
func (s *steps) connect(consumer string) string {
	c := &client{consumer: consumer, slow: s.r.IntN(5) == 0}
	cursor := core.FromStart
	switch s.r.IntN(3) {
	case 0:
		cursor = core.FromNow
	case 1:
		if visible := s.Visible(consumer); len(visible) > 0 {
			cursor = visible[s.r.IntN(len(visible))].ID
		}
	}
	c.reader = s.world.open(consumer, cursor)
	c.from = c.Cursor()
	s.readers = append(s.readers, c)
	return fmt.Sprintf("%s connects after %d", consumer, cursor)
}

// check lets every client take, and compares what they got with what was committed.
func (s *steps) check() error {
	for _, c := range s.readers {
		if c.slow {
			events, err := c.Take(nil, 1, 1)
			if err != nil && !errors.Is(err, core.ErrUnavailable) {
				return err
			}
			for _, e := range events {
				c.got = append(c.got, e.ID)
			}
		} else {
			got, err := c.take()
			if c.got = append(c.got, got...); err != nil && !errors.Is(err, core.ErrUnavailable) {
				return err
			}
		}
		var want []int64
		for _, e := range s.Visible(c.consumer) {
			if e.ID > c.from {
				want = append(want, e.ID)
			}
		}
		if s.broken || c.slow { // what it got so far must be right, and may be short
			want = want[:min(len(want), len(c.got))]
		}
		if fmt.Sprint(c.got) != fmt.Sprint(want) {
			return fmt.Errorf("%s after %d got %v, want %v", c.consumer, c.from, c.got, want)
		}
	}
	return nil
}
