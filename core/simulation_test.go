package core_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
)

// TestSimulation runs small worlds, each from a seed: two instances over one table, transactions that overlap, readers that
// stream, poll and read pages as a Lambda does, and change between these, between the instances and between the topics they are
// granted with one cursor; types, amendments, redactions, retention, restores, restarts, and a store that fails, hangs and loses
// wake-ups. What the table and a client can do, they do between two steps of an instance as well: right before and right after each of its calls of the store.
//
// SEED and SEEDS say where to begin and how many; a failure names the seed that shows it alone.
func TestSimulation(t *testing.T) {
	first, seeds := uint64(1), 500
	if testing.Short() {
		seeds = 50
	}
	if s := os.Getenv("SEED"); s != "" {
		first, seeds = coretest.Seed(t), 1
	}
	if s := os.Getenv("SEEDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("SEEDS: %v", err)
		}
		seeds = n
	}
	began := time.Now()
	var failed atomic.Bool
	var running sync.WaitGroup
	next := make(chan uint64)
	for range 2 {
		running.Go(func() {
			for seed := range next {
				if !failed.Load() && !t.Run(fmt.Sprint(seed), func(t *testing.T) { simulate(t, seed) }) {
					failed.Store(true)
				}
			}
		})
	}
	for i := range seeds {
		next <- first + uint64(i)
	}
	close(next)
	running.Wait()
	t.Logf("%d seeds in %v", seeds, time.Since(began).Round(time.Millisecond))
}

func simulate(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		s := &simulation{T: t, r: rand.New(rand.NewPCG(seed, 0)), store: coretest.NewStore(), truth: map[int64]*fact{}, resting: 1}
		s.limits = roomy
		s.limits.TailBytes, s.limits.Pagers = 1<<(5+s.r.IntN(12)), 1+s.r.IntN(2)
		s.hubs = []*instance{s.start(), s.start()}
		synctest.Wait()
		for range 3 + s.r.IntN(4) {
			s.readers = append(s.readers, s.newReader())
		}
		s.resting--
		for range 70 {
			s.step()
		}
		s.settle()
		for _, h := range s.hubs {
			h.stop()
		}
		if t.Failed() {
			t.Errorf("SEED=%d: the last steps were\n%s", seed, strings.Join(s.journal[max(0, len(s.journal)-100):], "\n"))
		}
	})
}

// simulation is one world. Everything but the instances' own goroutines runs under mu.
type simulation struct {
	*testing.T
	store  *coretest.Store
	limits core.Limits
	hubs   []*instance

	mu      sync.Mutex
	r       *rand.Rand
	truth   map[int64]*fact // what was committed and lasts, by id
	open    []*txn
	readers []*simReader
	journal []string
	tokens  int
	faulty  bool  // wake-ups or calls of the store are disturbed
	backTo  int64 // where the database went back to, at most
	resting int   // unless 0, nothing happens between the steps of an instance
}

// instance is a hub over the store, with a seam in each of its calls.
type instance struct {
	hub    atomic.Pointer[core.Hub]
	cancel context.CancelFunc
	ended  chan struct{}
}

func (h *instance) stop() {
	h.cancel()
	<-h.ended
}

func (s *simulation) start() *instance {
	ctx, cancel := context.WithCancel(context.Background())
	h := &instance{cancel: cancel, ended: make(chan struct{})}
	program := func() *core.Hub { return core.NewHub(seam{s}, s.limits, slog.New(slog.DiscardHandler)) }
	h.hub.Store(program())
	go func() {
		defer close(h.ended)
		// Without a store there is no start, and a supervisor starts the program again.
		for h.hub.Load().Run(ctx) != nil && ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
			h.hub.Store(program())
		}
	}()
	return h
}

var simTypes = []string{"insert", "update"}

// between lets the world go on while an instance is between two steps.
func (s *simulation) between() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resting > 0 || s.r.IntN(4) > 0 {
		return
	}
	switch s.r.IntN(5) {
	case 0, 1:
		s.write()
	case 2:
		if r := s.pick(); r.session != nil {
			r.take(1 + s.r.IntN(6))
		} else {
			r.page()
		}
	case 3:
		s.pick().leave()
	default:
		s.pick().stream()
	}
}

// linger has what was read arrive late, after what was committed since.
func (s *simulation) linger() {
	s.mu.Lock()
	late := s.resting == 0 && s.r.IntN(8) == 0
	s.mu.Unlock()
	if late {
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *simulation) pick() *simReader {
	if len(s.readers) == 0 {
		return s.newReader()
	}
	return s.readers[s.r.IntN(len(s.readers))]
}

func (s *simulation) say(format string, args ...any) {
	s.journal = append(s.journal, fmt.Sprintf(format, args...))
}

// step does one thing, and lets the instances come to rest more often than not.
func (s *simulation) step() {
	s.mu.Lock()
	var pause time.Duration
	switch dice := s.r.IntN(100); {
	case dice < 40:
		s.write()
	case dice < 70:
		s.pick().turn()
	case dice < 76:
		s.pick().leave()
	case dice < 80:
		s.prune()
	case dice < 88:
		s.disturb()
	case dice < 91:
		s.restart()
	case dice < 93:
		s.mu.Unlock()
		s.restore()
		s.mu.Lock()
	default:
		pause = time.Duration(s.r.IntN(2500)) * time.Millisecond
		s.say("time passes: %v", pause)
	}
	wait := s.r.IntN(4) > 0
	s.mu.Unlock()
	time.Sleep(pause)
	if wait {
		synctest.Wait()
		s.prompt()
	}
}

func (s *simulation) disturb() {
	s.faulty = true
	switch s.r.IntN(9) {
	case 0:
		s.store.Disconnect()
		s.say("disconnect")
	case 1:
		s.calm()
	default:
		faults := []coretest.Faults{
			failing("Pages"), failing("Follow", "Read"), failing("FillPayloads", "Wait"), failing("Look"),
			{LoseRings: true}, {RingAfter: 50 * time.Millisecond}, hanging("Pages"), hanging("Read"),
		}
		i := s.r.IntN(len(faults))
		s.store.SetFaults(faults[i])
		s.say("fault %d", i)
	}
}

// calm ends the faults; reads stay short at times, so that much is read in several.
func (s *simulation) calm() {
	s.store.SetFaults(coretest.Faults{
		MaxPages: s.r.IntN(3), MaxPayloads: s.r.IntN(3), MaxPageEvents: 2 * s.r.IntN(3), MaxEvents: s.r.IntN(4),
	})
	s.say("no faults")
}

// restart ends an instance as a crash does, and starts another.
func (s *simulation) restart() {
	i := s.r.IntN(len(s.hubs))
	s.say("restart instance %d", i)
	for _, r := range s.readers {
		if r.session != nil && r.at == s.hubs[i] {
			r.leave()
		}
	}
	old := s.hubs[i]
	s.hubs[i] = s.start()
	go old.stop()
}

// restore goes back to an older state of the database, while no transaction is open. Either every reader looks at it before
// ids are drawn again, or, as in a failover, they are drawn before anybody looks: then who had a cursor with an instance that
// had read as far must be told.
func (s *simulation) restore() {
	s.mu.Lock()
	for _, tx := range s.open {
		tx.Rollback()
	}
	s.open = nil
	s.resting++
	s.calm()
	ids := keys(s.truth)
	if len(ids) == 0 {
		s.resting--
		s.mu.Unlock()
		return
	}
	to := ids[s.r.IntN(len(ids))]
	for _, r := range s.readers {
		r.stream()
	}
	s.store.SetFaults(failing("Follow", "Look", "Read", "FillPayloads", "Wait", "Pages"))
	s.store.Disconnect()
	s.mu.Unlock()
	synctest.Wait()
	s.mu.Lock()
	s.say("restore to %d", to)
	s.store.Restore(to)
	for _, r := range s.readers {
		r.lost = r.cursor > to
	}
	known := !slices.ContainsFunc(s.readers, func(r *simReader) bool {
		return r.lost && (r.session == nil || r.at.hub.Load().Status().Position < r.cursor)
	})
	for _, id := range ids {
		if id > to {
			delete(s.truth, id)
			continue
		}
		f := s.truth[id]
		f.vague = f.deleted
		if f.redaction > to {
			f.redaction = math.MaxInt64 // nothing tells of it any more
		}
	}
	s.backTo = max(s.backTo, to)
	if known && s.r.IntN(2) == 0 {
		tx := &txn{Tx: s.store.Begin(), facts: map[int64]*fact{}}
		for range 1 + s.r.IntN(2*len(ids)) {
			s.insert(tx)
		}
		maps.Copy(s.truth, tx.facts)
		s.say("commit %v", keys(tx.facts))
		tx.Commit()
	}
	for _, r := range s.readers {
		r.rewound = true
	}
	s.calm()
	s.mu.Unlock()
	time.Sleep(10 * time.Minute) // what hangs is given up, the loss is noticed by then, and cursors are doubted for five minutes more
	for range 5 {
		synctest.Wait()
		s.mu.Lock()
		for _, r := range s.readers {
			if r.session == nil {
				r.page()
			}
			r.takeAll()
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	for _, r := range s.readers {
		if r.lost {
			s.Errorf("%s: is not told that the database went back, its cursor is at %d", r.name, r.cursor)
		}
		r.rewound = false
	}
	s.resting--
	s.mu.Unlock()
}

// prompt checks, while nothing is disturbed, that a stream that had everything has what was committed since: it was
// woken, without the second that a lost wake-up would take.
func (s *simulation) prompt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faulty {
		return
	}
	for _, r := range s.readers {
		if r.session != nil {
			r.takeAll()
		}
	}
}

// settle ends everything that disturbs, and sees that everybody gets all.
func (s *simulation) settle() {
	s.mu.Lock()
	s.resting++
	s.calm()
	for _, tx := range s.open {
		tx.Rollback()
	}
	s.mu.Unlock()
	time.Sleep(6 * time.Minute)
	synctest.Wait()
	s.mu.Lock()
	s.faulty = false
	s.mu.Unlock()
	// Now wake-ups are all there is: an event that is committed must arrive before any time passes.
	for range 3 {
		s.drain()
		s.mu.Lock()
		tx := &txn{Tx: s.store.Begin(), facts: map[int64]*fact{}}
		for range 1 + s.r.IntN(4) {
			s.insert(tx)
		}
		for id, f := range tx.facts {
			s.truth[id] = f
		}
		tx.Commit()
		s.mu.Unlock()
		synctest.Wait()
	}
	s.drain()
	for _, r := range s.readers {
		for id, f := range s.truth {
			if r.wants(f) && !f.deleted && id > r.cursor {
				s.Errorf("%s: has not got %d, its cursor is at %d", r.name, id, r.cursor)
			}
		}
		r.leave()
		r.readAgain()
	}
}

// drain has every reader take what there is, streams as they are woken.
func (s *simulation) drain() {
	for range 200 {
		synctest.Wait()
		s.mu.Lock()
		busy := false
		for _, r := range s.readers {
			if r.session == nil {
				r.stream()
			}
			r.takeAll()
		}
		s.mu.Unlock()
		synctest.Wait()
		for _, r := range s.readers {
			busy = busy || r.session == nil || r.woken.Load() // a page may have come
		}
		if !busy {
			return
		}
	}
	for _, r := range s.readers {
		s.Errorf("%s does not come to rest: its cursor is at %d, it is woken: %v, it streams: %v", r.name, r.cursor, r.woken.Load(), r.session != nil)
	}
}
