package postgresql

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// floodTime is how long an answer may be waited for while notifications come instead, and floodRings how many
	// of them make a flood: so many that writers ring only where thousands of commits a second meet an armed doorbell.
	floodTime  = time.Second
	floodRings = 1000
	// listenTimeout bounds LISTEN, which goes through the queue of notifications up to its end.
	listenTimeout = liveSilence
	// A flood has its listeners do without notifications for minDeaf, and for twice as long each time that another
	// follows soon.
	minDeaf, maxDeaf = 10 * time.Second, 5 * time.Minute
)

// errFlood is why a connection was given up on which PostgreSQL sent notifications and nothing else: it hands them out
// before it takes the next statement, and every role that may connect can send them without end.
var errFlood = errors.New("notifications came without end, and no answer; for a while events are read without them")

// deafness is how long the connections to a database do not listen. Several goroutines use it.
type deafness struct {
	mu sync.Mutex
	// Guarded by mu.
	until time.Time
	last  time.Duration
}

// begin notes a flood.
func (d *deafness) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if now.Sub(d.until) > d.last {
		d.last = minDeaf / 2 // the last one is long over
	}
	d.last = min(2*d.last, maxDeaf)
	d.until = now.Add(d.last)
}

// lasts reports whether to do without notifications.
func (d *deafness) lasts() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Before(d.until)
}

// rang counts a notification. It ends the connection, and with it the wait for an answer, if they are a flood.
func (l *listener) rang() {
	l.rings++
	l.unanswered++
	if l.unanswered >= floodRings && !l.asked.IsZero() && time.Since(l.asked) > floodTime {
		l.flooded = true
		_ = l.PgConn().Conn().Close() // who reads from it notices
	}
}

// attend is [attend] for a connection that may be listening.
func (l *listener) attend(ctx context.Context, ask func(context.Context) error) error {
	return l.unflooded(func() error { return attend(ctx, heard(l.Conn), liveSilence, ask) })
}

// unflooded asks something, and gives up with an errFlood if notifications keep the answer waiting.
func (l *listener) unflooded(ask func() error) error {
	l.asked, l.unanswered = time.Now(), 0
	err := ask()
	l.asked = time.Time{}
	if err != nil && l.flooded {
		l.deaf.begin()
		return fmt.Errorf("%w: %w", errFlood, err)
	}
	return err
}

// listen has the doorbell's rings come. The second question is the first one that they may keep waiting.
func (l *listener) listen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	err := l.unflooded(func() error {
		if _, err := l.Exec(ctx, "listen new_events"); err != nil {
			return err
		}
		return l.Ping(ctx)
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && !l.flooded {
		l.deaf.begin() // there is more in the queue than can be gone through
	}
	return fmt.Errorf("listen: %w", err)
}
