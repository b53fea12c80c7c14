package core

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxQueries bounds the pages that one read of history answers.
	maxQueries = 256
	// maxPageEvents bounds a page, minPageEvents is what a session gets when many share a read.
	maxPageEvents, minPageEvents = 1000, 16
	// readEvents is about how many events one read of history returns in all.
	readEvents = 2000
	// pageTimeout bounds one read of history, whatever comes meanwhile: the largest payload over a slow line. A store
	// gives up much sooner where nothing does.
	pageTimeout = 5 * time.Minute
)

// pager reads history for the sessions that have fallen behind. While all of its readers are busy the
// requests gather, and the next free reader answers many of them at once: a herd of sessions that come back
// in one moment costs a few queries, and each gets a page before any gets its second. Sessions that ask for
// the same share one page.
type pager struct {
	hub *Hub

	// Guarded by hub.mu.
	queue   []*Session
	readers int

	running sync.WaitGroup
}

// request is what one read of history is about.
type request struct {
	queries []PageQuery
	// sessions asked for these pages: sessions[i] for that of queries[query[i]].
	sessions []*Session
	query    []int
	known    Mark
	era      int // as of the asking
}

// ask queues a session for the page after what it has. It runs under the hub's mutex.
func (p *pager) ask(s *Session) {
	s.history.ask()
	p.queue = append(p.queue, s)
	p.start()
}

// start starts a reader if there is something to read, room for it, and one free. It runs under the hub's mutex.
func (p *pager) start() {
	h := p.hub
	if len(p.queue) > 0 && !h.buffer.full() && p.readers < h.limits.Pagers && h.ctx.Err() == nil {
		p.readers++
		p.running.Go(p.read)
	}
}

// read answers queued sessions until there are none.
func (p *pager) read() {
	for failures := 0; ; {
		r := p.nextRequest()
		if len(r.sessions) == 0 {
			return
		}
		left, err := p.answer(r)
		if err == nil {
			failures = 0
			continue
		}
		if p.hub.ctx.Err() != nil {
			continue // which ends it: the hub is closing
		}
		p.failed(left, err)
		select {
		case <-p.hub.ctx.Done():
		case <-time.After(backoff(failures)):
			failures++
		}
	}
}

// answer reads what was asked for and hands it out. A read that fails for the fault of some queries is split until
// only their sessions are left without. Left are the sessions that have no answer because of another error.
func (p *pager) answer(r request) (left []*Session, _ error) {
	ctx, cancel := context.WithTimeout(p.hub.ctx, pageTimeout)
	pages, err := p.hub.store.Pages(ctx, r.queries, r.known)
	cancel()
	switch {
	case err == nil:
		p.deliver(r, pages)
		return nil, nil
	case !errors.Is(err, ErrUnreadable):
		return r.sessions, err
	case len(r.queries) == 1:
		p.unreadable(r, err)
		return nil, nil
	}
	first, second := r.split()
	if left, err := p.answer(first); err != nil {
		return append(left, second.sessions...), err
	}
	return p.answer(second)
}

// split halves a request.
func (r request) split() (first, second request) {
	half := len(r.queries) / 2
	first = request{queries: r.queries[:half], known: r.known, era: r.era}
	second = request{queries: r.queries[half:], known: r.known, era: r.era}
	for i, s := range r.sessions {
		if q := r.query[i]; q < half {
			first.sessions, first.query = append(first.sessions, s), append(first.query, q)
		} else {
			second.sessions, second.query = append(second.sessions, s), append(second.query, q-half)
		}
	}
	return first, second
}

// wish tells sessions apart that do not ask for the same.
type wish struct {
	own     *tail
	after   int64
	limit   int
	types   string
	current bool
}

// nextRequest takes sessions off the queue. With none left that may have more, enough held, or when the hub has
// stopped, the reader is gone.
func (p *pager) nextRequest() (r request) {
	h := p.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.buffer.full() || h.ctx.Err() != nil {
		p.readers--
		return r
	}
	r.known, r.era = h.known(), h.era
	wishes := map[wish]int{}
	alone := false
	p.queue = slices.DeleteFunc(p.queue, func(s *Session) bool {
		switch {
		case s.closed:
			return true
		case s.history.stage == recalled:
			s.history.dismiss()
			s.wake() // to ask again, if it does not wait for something else
			return true
		case alone || s.history.failures > 0 && len(r.queries) > 0 || h.buffer.room(s.owner()) != nil:
			return false
		}
		w := wish{s.owner(), s.readThrough(), s.history.limit, strings.Join(s.types, "\n"), s.view.Current}
		i, shared := wishes[w]
		switch {
		case shared && len(s.follows) == 1:
		case len(r.queries) == maxQueries:
			return false
		default:
			i = len(r.queries)
			r.queries = append(r.queries, s.query())
			if len(s.follows) == 1 {
				wishes[w] = i
			}
		}
		r.sessions, r.query = append(r.sessions, s), append(r.query, i)
		alone = s.history.failures > 0
		return true
	})
	if len(r.sessions) == 0 {
		p.readers--
		return r
	}
	share := max(readEvents/len(r.queries), minPageEvents)
	for i := range r.queries {
		r.queries[i].Limit = min(r.queries[i].Limit, share)
	}
	return r
}

// query is what the session asks for.
func (s *Session) query() PageQuery {
	q := PageQuery{After: s.readThrough(), Types: s.types, Current: s.view.Current, Limit: s.history.limit}
	q.Addresses = make([]string, len(s.follows))
	for i := range s.follows {
		q.Addresses[i] = s.follows[i].tail.address
	}
	return q
}

// deliver hands the pages out and puts back the sessions that got none.
func (p *pager) deliver(r request, pages []Page) {
	h := p.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range pages {
		h.counters.Pages++
		h.counters.PageEvents += int64(len(pages[i].Events))
	}
	var again []*Session
	for i, s := range r.sessions {
		if r.query[i] >= len(pages) {
			again = append(again, s)
			continue
		}
		s.failure = nil // one before this answer is of no interest any more
		if s.closed {
			continue
		}
		query, page := r.queries[r.query[i]], &pages[r.query[i]]
		reset := page.Reset(query)
		if s.history.doubted {
			reset = &ResetError{Reason: Ahead, Oldest: page.Pruned, Newest: page.Newest}
		}
		switch {
		case s.history.stage == recalled || query.After != s.readThrough():
			s.history.dismiss() // it waits, or has dropped what this page follows
		case s.redactedAfter(r.known.ID):
			s.history.dismiss() // the page may have been read before, and will be asked for again
		case r.era != h.era:
			s.history.dismiss() // it may have been read before a loss
		case reset == nil:
			page.owner = s.owner()
			s.history.arrive(page)
		default:
			if s.history.stage == asked {
				h.counters.reset(reset.Reason)
				s.failure = reset
			}
			s.history.dismiss() // the one that has a page will ask again, and be told then
		}
		s.wake()
	}
	p.queue = slices.Insert(p.queue, 0, again...)
}

// failed tells the sessions that their history cannot be read now and puts them back.
func (p *pager) failed(sessions []*Session, err error) {
	h := p.hub
	h.log.Warn("cannot read history", "sessions", len(sessions), "error", err)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counters.PageFailures++
	h.suspects = h.suspects || errors.Is(err, ErrReplaced)
	for _, s := range sessions {
		s.fail(err)
	}
	p.queue = slices.Insert(p.queue, 0, sessions...)
}

// fail tells a session that has no page at hand that history cannot be read right now.
func (s *Session) fail(err error) {
	if s.history.page == nil {
		s.failure = unavailable(err)
		s.wake()
	}
}

// unreadable has the sessions that asked for a page that cannot be read try a smaller one, and at last one event.
// When that cannot be read either they are told, and ask again after a pause of their own.
func (p *pager) unreadable(r request, err error) {
	h := p.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counters.PageFailures++
	told := false
	for _, s := range r.sessions {
		if s.history.unreadable() {
			p.queue = append(p.queue, s)
			continue
		}
		told = true
		s.fail(err)
		time.AfterFunc(backoff(s.history.failures), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			p.queue = append(p.queue, s)
			p.start()
		})
	}
	if told {
		h.log.Warn("an event cannot be read", "after", r.queries[0].After, "address", r.queries[0].Addresses[0], "error", err)
	}
}
