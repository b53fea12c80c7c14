//go:build unix

package blackbox_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// crowd is many sessions of a few consumers. Each keeps what it was given.
type crowd struct {
	consumers int
	sessions  []*member
	reading   sync.WaitGroup
}

type member struct {
	consumer string
	stream   *stream
	seen     []int64 // owned by the reading goroutine until it ends
	err      error   // so is this
}

// gather opens sessions from now on and reads them, each until an event of type "last".
func gather(t testing.TB, addr string, sessions, consumers int) *crowd {
	t.Helper()
	c := &crowd{consumers: consumers}
	for i := range sessions {
		m := &member{consumer: consumerName(i % consumers)}
		m.stream = mustOpen(t, addr, m.consumer, fromNow)
		c.sessions = append(c.sessions, m)
		c.reading.Go(func() { m.err = m.read() })
	}
	return c
}

func (m *member) read() error {
	for {
		f, err := m.stream.nextEvent()
		if err != nil {
			return err
		}
		if f.id == 0 {
			return fmt.Errorf("want an event, got %+v", f)
		}
		m.seen = append(m.seen, f.id)
		if f.event == "last" {
			return nil
		}
	}
}

// end sends each consumer its last event, and checks what every session has been given against the table.
func (c *crowd) end(t testing.TB, db database) {
	t.Helper()
	want := map[string][]int64{}
	for n := range c.consumers {
		db.insert(t, consumerName(n), "last", `{}`)
		want[consumerName(n)] = db.ids(t, consumerName(n))
	}
	c.reading.Wait()
	wrong := 0
	for i, m := range c.sessions {
		if m.err == nil && slices.Equal(m.seen, want[m.consumer]) {
			continue
		}
		if wrong++; wrong <= 5 {
			t.Errorf("session %d: want the %d events of %s once and in order, got %d: %s (%v)",
				i, len(want[m.consumer]), m.consumer, len(m.seen), difference(want[m.consumer], m.seen), m.err)
		}
	}
	if wrong > 0 {
		t.Errorf("want all of %d sessions to be right, %d are not", len(c.sessions), wrong)
	}
}

// trickle inserts an event every now and then, for one consumer after the other, until stop is called. It
// takes no notice of failures: the table tells later what was committed.
func trickle(dsn string, consumers int, pause time.Duration) (stop func()) {
	done := make(chan struct{})
	var inserting sync.WaitGroup
	inserting.Go(func() {
		var db application
		defer db.close()
		for n := 0; ; n++ {
			db.insert(dsn, consumerName(n%consumers))
			select {
			case <-done:
				return
			case <-time.After(pause):
			}
		}
	})
	return sync.OnceFunc(func() { close(done); inserting.Wait() })
}
