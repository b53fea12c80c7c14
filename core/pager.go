package core

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// maxQueries bounds the sessions that one read of history answers.
	maxQueries = 256
	// maxPageEvents bounds a page, minPageEvents is what a session gets when many share a read.
	maxPageEvents, minPageEvents = 1000, 16
	// readEvents is about how many events one read of history returns in all.
	readEvents = 2000
	// pageTimeout bounds one read of history.
	pageTimeout = 30 * time.Second
	// maxHeld bounds what sessions hold of pages that they have not taken, about, in bytes. Nothing is read above it.
	maxHeld = 64 << 20
)

// pager reads history for the sessions that have fallen behind. While all of its readers are busy the
// requests gather, and the next free reader answers many of them at once: a herd of sessions that come back
// in one moment costs a few queries, and each gets a page before any gets its second.
type pager struct {
	hub *Hub

	// Guarded by hub.mu.
	queue   []*Session
	readers int
	held    int // the bytes of pages that sessions have not taken

	running sync.WaitGroup
}

// ask queues a session for the page after what it has. It runs under the hub's mutex.
func (p *pager) ask(s *Session) {
	s.paging = true
	p.queue = append(p.queue, s)
	p.start()
}

// start starts a reader if there is something to read, room for it, and one free. It runs under the hub's mutex.
func (p *pager) start() {
	if len(p.queue) > 0 && p.held < maxHeld && p.readers < p.hub.limits.Pagers && p.hub.ctx.Err() == nil {
		p.readers++
		p.running.Go(p.read)
	}
}

// hold counts a page that a session gets.
func (p *pager) hold(page *Page) *Page {
	for _, e := range page.Events {
		page.bytes += weight(e)
	}
	p.held += page.bytes
	return page
}

// release counts a page, if there is one, that a session has taken or dropped.
func (p *pager) release(page *Page) {
	if page != nil {
		p.held -= page.bytes
		p.start()
	}
}

// read answers queued sessions until there are none.
func (p *pager) read() {
	for failures := 0; ; {
		sessions, queries, known := p.next()
		if len(sessions) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(p.hub.ctx, pageTimeout)
		pages, err := p.hub.store.Pages(ctx, queries, known)
		cancel()
		if err == nil {
			p.deliver(sessions, queries, pages)
			failures = 0
			continue
		}
		if p.hub.ctx.Err() != nil {
			continue // which ends it: the hub is closing
		}
		p.failed(sessions, err)
		select {
		case <-p.hub.ctx.Done():
		case <-time.After(backoff(failures)):
			failures++
		}
	}
}

// next takes sessions off the queue. With none left, enough held, or when the hub has stopped, the reader is gone.
func (p *pager) next() (_ []*Session, _ []PageQuery, known int64) {
	h := p.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	p.queue = slices.DeleteFunc(p.queue, func(s *Session) bool {
		if s.parked && !s.closed {
			s.paging = false
			s.wake() // to ask again, if it does not wait for something else
		}
		return s.closed || s.parked
	})
	if len(p.queue) == 0 || p.held >= maxHeld || h.ctx.Err() != nil {
		p.readers--
		return nil, nil, 0
	}
	n := min(len(p.queue), maxQueries)
	sessions := slices.Clone(p.queue[:n])
	p.queue = slices.Delete(p.queue, 0, n)
	queries, share := make([]PageQuery, n), max(readEvents/n, minPageEvents)
	for i, s := range sessions {
		queries[i] = PageQuery{Consumer: s.tail.consumer, After: s.readThrough(), Limit: min(share, s.pageLimit)}
	}
	return sessions, queries, h.position
}

// deliver hands the pages out and puts back the sessions that got none.
func (p *pager) deliver(sessions []*Session, queries []PageQuery, pages []Page) {
	h := p.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range pages {
		s, page := sessions[i], &pages[i]
		h.counters.Pages++
		h.counters.PageEvents += int64(len(page.Events))
		s.paging, s.err = false, nil // a failure before this answer is of no interest any more
		if s.closed {
			continue
		}
		reset := page.Reset(queries[i])
		switch {
		case s.parked || queries[i].After != s.readThrough():
			// The session waits, or has dropped what this page follows.
		case reset == nil && s.page != nil:
			s.ahead = p.hold(page)
		case reset == nil:
			s.page, s.found = p.hold(page), true
		case s.page == nil:
			h.counters.reset(reset.Reason)
			s.err = reset
		}
		s.wake()
	}
	p.queue = slices.Insert(p.queue, 0, sessions[len(pages):]...)
}

// failed tells the sessions that their history cannot be read now and puts them back.
func (p *pager) failed(sessions []*Session, err error) {
	h := p.hub
	h.log.Warn("cannot read history", "sessions", len(sessions), "error", err)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counters.PageFailures++
	for _, s := range sessions {
		if s.page == nil {
			s.err = unavailable(err)
			s.wake()
		}
	}
	p.queue = slices.Insert(p.queue, 0, sessions...)
}
