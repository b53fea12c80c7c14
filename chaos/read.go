package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/event-piper/event-piper/chaos/check"
)

// target is a server, as clients see it.
type target struct {
	name    string
	base    string // URL that clients ask, by a link
	direct  string // URL without a link, for its health
	streams bool   // it serves GET /events
	only    bool   // and nothing else: no polls, no health
	plain   bool   // by HTTP/1.1 alone
}

// ends are the cursors at which readers end, by address; nil while the run goes on.
type ends struct {
	atomic.Pointer[map[string]int64]
}

// transport is how a reader asks.
type transport struct {
	name string
	run  func(r *reader, ctx context.Context, t *target) (*check.Session, error)
	// streams says that only a target that streams will do, and plain that one will that is plain.
	streams, plain bool
}

var transports = []transport{
	{"SSE", (*reader).stream, true, true},
	{"SSE over h2c", (*reader).streamH2C, true, false},
	{"SSE from a half-closed socket", (*reader).streamHalfClosed, true, false},
	{"poll", (*reader).poll, false, true},
}

// reader is a client with one cursor. It changes servers and transports all the time and goes on from its cursor.
type reader struct {
	// set at construction
	address string
	targets []*target
	history *check.Reader
	naps    bool // it stays away for long, so that retention overtakes it
	joins   bool // it follows topics, others in each session
	settled bool // it stays with the transport that it has, and is not tired of it
	// received, if not nil, hears of every delivery.
	received func(*check.Message)
	// tell, if not nil, hears of every end of a session.
	tell   func(format string, args ...any)
	random *rand.Rand
	ends   *ends

	// owned by run
	cursor   int64
	interest interest
	h1, h2   *http.Client
}

func newReader(history *check.Reader, address string, random *rand.Rand, ends *ends, targets ...*target) *reader {
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	dial := (&net.Dialer{Timeout: 2 * time.Second}).DialContext
	return &reader{
		address: address, history: history, random: random, ends: ends, targets: targets,
		h1: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true}},
		h2: &http.Client{Transport: &http.Transport{DialContext: dial, Protocols: h2, DisableCompression: true}},
	}
}

// run reads until ctx ends, or the last cursor is known and reached.
func (r *reader) run(ctx context.Context) {
	defer r.h1.CloseIdleConnections()
	defer r.h2.CloseIdleConnections()
	for ctx.Err() == nil && !r.done() {
		if r.joins && r.ends.Load() == nil { // the end is that of what it follows
			r.join()
		}
		target := r.targets[r.random.IntN(len(r.targets))]
		transport := r.transportFor(target)
		err := r.session(ctx, target, transport)
		if err != nil {
			_ = sleep(ctx, 20*time.Millisecond+time.Duration(r.random.Int64N(int64(200*time.Millisecond))))
		}
		if r.naps && r.ends.Load() == nil && r.random.IntN(2) == 0 {
			_ = sleep(ctx, time.Duration(r.random.Int64N(int64(10*time.Second))))
		}
	}
}

func (r *reader) done() bool {
	end, known := r.end()
	return known && r.cursor >= end
}

func (r *reader) transportFor(t *target) transport {
	if r.settled {
		if t.streams {
			return transports[0]
		}
		return transports[len(transports)-1]
	}
	for {
		way := transports[r.random.IntN(len(transports))]
		if (t.streams || !way.streams) && (!t.only || way.streams) && (!t.plain || way.plain) {
			return way
		}
	}
}

// patience is how long a stream may be silent, as with clients whose read timeout is five seconds; heartbeats come
// every second here.
const patience = 5 * time.Second

// session runs one session and keeps what it got, with the cursor at which it ended.
func (r *reader) session(ctx context.Context, t *target, way transport) error {
	after, began := r.cursor, time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !r.settled && r.random.IntN(2) == 0 {
		tired := time.AfterFunc(50*time.Millisecond+time.Duration(r.random.Int64N(int64(6*time.Second))), cancel)
		defer tired.Stop()
	}
	s, err := way.run(r, ctx, t)
	if s != nil && (len(s.Messages) > 0 || r.done()) {
		s.Via, s.Server, s.Addresses, s.After = way.name+" of "+t.name, t.name, r.addresses(), after
		r.history.Sessions = append(r.history.Sessions, *s)
	}
	if r.tell != nil && err != nil {
		r.tell("%s of %s, begun at %s, ended at %d: %v", way.name, t.name, clock(began), r.cursor, err)
	}
	return err
}

// got keeps a message and moves the cursor, as a client does that has processed it.
func (r *reader) got(s *check.Session, m check.Message) {
	m.At = time.Now()
	s.Messages = append(s.Messages, m)
	if m.Kind == check.Reset {
		r.cursor = m.ID
	} else {
		r.cursor = max(r.cursor, m.ID)
	}
	if m.Kind == check.Delivery && r.received != nil {
		r.received(&m)
	}
}

func (r *reader) request(ctx context.Context, url string) (*http.Request, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("X-Consumer-Id", r.address)
	r.interest.add(q)
	if r.cursor != check.FromNow {
		q.Header.Set("Last-Event-ID", strconv.FormatInt(r.cursor, 10)) // a poll's is a parameter
	}
	return q, nil
}

// watchdog ends a session that is silent for longer than the reader's patience.
type watchdog struct {
	mu    sync.Mutex
	timer *time.Timer
}

func watch(cancel context.CancelCauseFunc) *watchdog {
	return &watchdog{timer: time.AfterFunc(patience, func() { cancel(errSilent) })}
}

func (w *watchdog) pat() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Reset(patience)
}

func (w *watchdog) stop() { w.timer.Stop() }

var errSilent = fmt.Errorf("silent for %v", patience)
