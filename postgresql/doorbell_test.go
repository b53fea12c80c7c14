package postgresql

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"
)

// The model is the trigger, the read and the follower's Wait, taken apart into steps that others can come
// between; what to do is decided by the real doorbell. The tests go through every order of the steps.

const modelWriters = 3

// writer is where a transaction that inserts one event has got to.
type writer struct {
	at     int8 // index of the next step
	before int8 // what its lock holds: the sequence before it drew its id
	id     int8
	locked bool
	rings  bool // it found the doorbell armed
}

// model is the state of the world. It is comparable, so that no state is visited twice.
type model struct {
	// The database.
	sequence int8
	writers  [modelWriters]writer
	visible  [modelWriters + 1]bool // by id
	armed    bool
	rung     int8 // notifications on their way

	// The follower.
	doorbell            doorbell
	at                  step
	position            int8
	sequenceRead, bound int8 // what the running read has found so far
	writersRead         bool
	pause               time.Duration
}

type step int8

const (
	decide step = iota
	change
	readSequence
	readWriters
	readRows
	wait
)

// mutation is a mistake that the model must catch.
type mutation int

const (
	correct mutation = iota
	waitAfterArming
	ignoreWriters
	settleAtOnce
	doorbellBeforeLock
	sequenceAfterWriters
)

func (m mutation) String() string {
	return [...]string{"correct", "the follower waits as soon as it has armed", "the follower does not look at the writers",
		"the follower takes a first read without writers for the last word",
		"a writer looks at the doorbell before it takes its lock", "a read looks at the writers before the sequence"}[m]
}

// watermark is what a read would compute now.
func (m *model) watermark() int8 {
	w := m.sequence
	for _, writer := range m.writers {
		if writer.locked {
			w = min(w, writer.before)
		}
	}
	return w
}

// wrong says what must never be.
func (m *model) wrong() string {
	if m.at != wait || m.pause < safetyPause || m.rung > 0 {
		return ""
	}
	for id := m.position + 1; id <= m.watermark(); id++ {
		if m.visible[id] {
			return fmt.Sprintf("the follower waits for the safety read while event %d is there", id)
		}
	}
	return ""
}

// next calls visit with every state that one step leads to.
func (m model) next(mutation mutation, visit func(model)) {
	for i := range m.writers {
		m.write(i, mutation, visit)
	}
	m.follow(mutation, visit)
}

func (m model) write(i int, mutation mutation, visit func(model)) {
	w := &m.writers[i]
	at := w.at
	w.at++
	if mutation == doorbellBeforeLock && at < 2 {
		at = 1 - at
	}
	switch at {
	case 0:
		w.locked, w.before = true, m.sequence
	case 1:
		w.rings = m.armed
	case 2:
		m.sequence++
		w.id = m.sequence
	case 3:
		rolledBack := m
		rolledBack.writers[i].at, rolledBack.writers[i].locked = 5, false
		visit(rolledBack)
		m.visible[w.id] = true
		if w.rings {
			m.rung++
		}
	case 4:
		w.locked = false
	default:
		return
	}
	visit(m)
}

func (m model) follow(mutation mutation, visit func(model)) {
	switch m.at {
	case decide:
		// Whether a window is over and whether it was busy depends on traffic beyond this model.
		for _, over := range []time.Duration{0, ringWindow} {
			for _, rings := range []int{0, busyRings + 1} {
				m := m
				m.doorbell.rings = rings
				var now time.Time
				changed := m.doorbell.next(now.Add(over))
				m.doorbell.window, m.doorbell.rings, m.doorbell.reads, m.doorbell.finds = now, 0, 0, 0
				if m.at = change; !changed {
					m.sleep()
				}
				visit(m)
			}
		}
	case change:
		m.armed = m.doorbell.armed
		if m.at = readSequence; !m.armed || mutation == waitAfterArming {
			m.sleep()
		}
		visit(m)
	case readSequence, readWriters:
		if (m.at == readSequence) != (mutation == sequenceAfterWriters) {
			m.sequenceRead = m.sequence
		} else {
			m.bound, m.writersRead = m.lowest()
		}
		m.at++
		visit(m)
	case readRows:
		found := 0
		for id := m.position + 1; id <= min(m.sequenceRead, m.bound); id++ {
			if m.visible[id] {
				m.position = id
				found++
			}
		}
		writers := 0
		if m.writersRead && mutation != ignoreWriters {
			writers = 1
		}
		m.doorbell.observe(found > 0, writers, 0)
		if mutation == settleAtOnce {
			m.doorbell.writers = m.writersRead
		}
		m.sequenceRead, m.bound, m.writersRead, m.at = 0, 0, false, decide
		visit(m)
	case wait:
		unasked := m
		if m.pause < safetyPause {
			unasked.at, unasked.pause = readSequence, 0
			visit(unasked)
		}
		if m.rung > 0 {
			m.rung--
			m.doorbell.rang(1)
			m.at, m.pause = readSequence, 0
			visit(m)
		}
	}
}

func (m *model) sleep() { m.at, m.pause = wait, m.doorbell.pause() }

// simplify makes states equal that differ in nothing that matters any more.
func (m *model) simplify() {
	for i := range m.writers {
		if w := &m.writers[i]; w.at >= 5 {
			*w = writer{at: 5}
		}
	}
	slices.SortFunc(m.writers[:], func(a, b writer) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.before, b.before), cmp.Compare(a.id, b.id), compareBool(a.rings, b.rings))
	})
	m.doorbell.gentle, m.doorbell.rings, m.doorbell.reads, m.doorbell.finds = 0, 0, 0, 0
	if m.pause > 0 && m.pause < safetyPause {
		m.pause = minGentlePause
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// lowest is what the writers in flight leave of the sequence.
func (m *model) lowest() (bound int8, writers bool) {
	bound = modelWriters + 1
	for _, w := range m.writers {
		if w.locked {
			bound, writers = min(bound, w.before), true
		}
	}
	return bound, writers
}

// explore returns the first wrong that any order of the steps leads to, and how many states there are.
func explore(mutation mutation) (wrong string, states int) {
	start := model{at: readSequence}
	seen := map[model]bool{start: true}
	queue := []model{start}
	for len(queue) > 0 {
		m := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if wrong := m.wrong(); wrong != "" {
			return wrong, len(seen)
		}
		m.next(mutation, func(next model) {
			lost := ""
			for id := int8(1); id <= next.position; id++ {
				if next.visible[id] && !m.visible[id] {
					lost = fmt.Sprintf("event %d has appeared behind position %d", id, next.position)
				}
			}
			if lost != "" {
				wrong = lost
			}
			next.simplify()
			if !seen[next] {
				seen[next] = true
				queue = append(queue, next)
			}
		})
		if wrong != "" {
			return wrong, len(seen)
		}
	}
	return "", len(seen)
}

func TestNoOrderOfStepsLosesAWakeUpOrAnEvent(t *testing.T) {
	t.Parallel()
	wrong, states := explore(correct)
	if wrong != "" {
		t.Error(wrong)
	}
	t.Logf("%d states", states)
}

func TestTheModelCatchesMistakes(t *testing.T) {
	t.Parallel()
	for mutation := waitAfterArming; mutation <= sequenceAfterWriters; mutation++ {
		wrong, states := explore(mutation)
		if wrong == "" {
			t.Errorf("%s: found nothing wrong in %d states", mutation, states)
		}
		t.Logf("%s: %s, after %d states", mutation, wrong, states)
	}
}
