package sse

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// loop writes streams without a goroutine and without net/http's buffers for each: once the headers are
// out, a stream is a file descriptor, a session and a few words. A few workers give a turn to the streams
// that were signalled. Sockets tell when a client has left or can take more.
//
// It serves plain-text HTTP/1. The response ends its connection, whose buffers are gone by then. Over HTTP/1.1 each frame is
// a chunk, so that the bytes of an event are the same for every stream.
type loop struct {
	server  *Server
	sockets *sockets
	workers sync.WaitGroup

	mu    sync.Mutex
	ready *sync.Cond // on mu: queue has something, or nothing will ever be queued again
	// Guarded by mu.
	queue  []*fdStream // from first on
	first  int
	closed bool
	live   int // streams from before their session opens to after it is closed
}

// fdStream is a stream on a file descriptor.
type fdStream struct {
	stream
	socket
	state atomic.Int32
	// pending is what a write has left over, nil if nothing. It is owned by the worker whose turn it is.
	pending []byte
}

// A stream is in the queue at most once and has at most one worker at a time. A signal during its turn
// gives it another.
const (
	idle int32 = iota
	queued
	running
	signalled // while running
)

// turnBytes is how much a stream may write before others get their turn: less than a full chunk, so that those that
// replay wait for each other and not the live ones for them.
const turnBytes = 32 << 10

func newLoop(s *Server) (*loop, error) {
	l := &loop{server: s}
	l.ready = sync.NewCond(&l.mu)
	var err error
	l.sockets, err = openSockets(s.log, func(fs *fdStream, left bool) {
		if left {
			fs.gone.Store(true)
		}
		l.signal(fs)
	})
	if err != nil {
		return nil, err
	}
	// One processor stays free of them: writing to a crowd must not keep the reader of the database, which fills
	// the next write, from running.
	for range max(1, runtime.GOMAXPROCS(0)-1) {
		l.workers.Go(l.work)
	}
	return l, nil
}

// close waits for the streams that were told to end, and stops. No stream may start any more.
func (l *loop) close() {
	l.mu.Lock()
	l.closed = true
	l.ready.Broadcast()
	l.mu.Unlock()
	l.workers.Wait() // afterwards nobody adds a socket
	l.sockets.close()
}

// count notes that a stream is about to start (1) or is over (-1). Workers outlive the last one.
func (l *loop) count(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live += n
	if l.closed && l.live == 0 {
		l.ready.Broadcast()
	}
}

// accepts reports whether the loop can serve a request.
func (l *loop) accepts(r *http.Request) bool { return r.TLS == nil && r.ProtoMajor == 1 }

// serve takes the connection over from net/http, writes the headers, and leaves the rest to the workers.
func (l *loop) serve(w http.ResponseWriter, r *http.Request, a ask) error {
	fs := new(fdStream)
	fs.chunked = r.ProtoAtLeast(1, 1)
	fs.signal = func() { l.signal(fs) }
	fs.state.Store(running) // its first turn is this one
	l.count(1)
	if err := l.server.start(&fs.stream, a); err != nil {
		l.count(-1)
		return err
	}
	var err error
	if fs.socket, err = hijack(w, l.server.config.WriteTimeout); err != nil {
		l.server.end(&fs.stream)
		l.count(-1)
		return err
	}
	fs.access.Detach()
	var head bytes.Buffer
	_, _ = fmt.Fprintf(&head, "HTTP/1.1 200 OK\r\nDate: %s\r\nConnection: close\r\n", time.Now().UTC().Format(http.TimeFormat))
	_ = w.Header().Write(&head) // a bytes.Buffer takes everything; line breaks in values become spaces
	if fs.chunked {
		head.WriteString("Transfer-Encoding: chunked\r\n")
	}
	head.WriteString("\r\n")
	fs.pending = fs.first(head.Bytes())
	if err := l.sockets.watch(fs); err != nil {
		l.server.log.Warn("cannot watch a connection", "error", err)
		l.end(fs)
		return nil
	}
	fs.state.Store(idle)
	l.signal(fs)
	return nil
}

// signal makes sure that a stream has a turn that begins after now.
func (l *loop) signal(fs *fdStream) {
	for {
		switch state := fs.state.Load(); state {
		case queued, signalled:
			return
		case running:
			if fs.state.CompareAndSwap(running, signalled) {
				return
			}
		case idle:
			if fs.state.CompareAndSwap(idle, queued) {
				l.enqueue(fs)
				return
			}
		}
	}
}

// turnsEach is how many turns one more worker is woken for: waking it takes longer than a few turns.
const turnsEach = 16

func (l *loop) enqueue(fs *fdStream) {
	l.mu.Lock()
	if len(l.queue) == cap(l.queue) && l.first > len(l.queue)/2 { // rather than grow
		n := copy(l.queue, l.queue[l.first:])
		clear(l.queue[n:])
		l.queue, l.first = l.queue[:n], 0
	}
	l.queue = append(l.queue, fs)
	wake := (len(l.queue)-l.first)%turnsEach == 1
	l.mu.Unlock()
	if wake { // a worker that is awake looks at the queue again before it waits
		l.ready.Signal()
	}
}

// dequeue waits for a stream that is to have a turn; there is none when the loop is closed and no stream is left.
func (l *loop) dequeue() *fdStream {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.first == len(l.queue) {
		l.queue, l.first = l.queue[:0], 0
		if l.closed && l.live == 0 {
			return nil
		}
		l.ready.Wait()
	}
	fs := l.queue[l.first]
	l.queue[l.first] = nil
	l.first++
	return fs
}

// work gives turns until the loop is closed and no stream is left.
func (l *loop) work() {
	var scratch scratch
	for {
		fs := l.dequeue()
		if fs == nil {
			return
		}
		fs.state.Store(running)
		more, done := l.turn(fs, &scratch)
		switch {
		case done:
			l.end(fs) // in state running for ever: nobody gives it a turn again
		case more || !fs.state.CompareAndSwap(running, idle):
			fs.state.Store(queued)
			l.enqueue(fs)
		}
	}
}

// turn writes what there is to write for a stream, as far as the client takes it; more reports that there
// may be more at once, done that the stream is over.
func (l *loop) turn(fs *fdStream, scratch *scratch) (more, done bool) {
	for written := 0; written < turnBytes; {
		if fs.pending != nil {
			if fs.gone.Load() || !fs.flush() {
				return false, true
			}
			if fs.pending != nil {
				return false, fs.late()
			}
		}
		chunk, over := fs.next(scratch)
		if len(chunk) == 0 {
			return false, over
		}
		n, err := fs.write(chunk)
		if err != nil || over {
			return false, true
		}
		written += n
		if n < len(chunk) {
			if fs.keep(chunk[n:], scratch) != nil {
				return false, true // its client comes back for what it could not take
			}
		}
	}
	return true, false
}

// flush writes what is pending; it reports whether the connection still works.
func (fs *fdStream) flush() bool {
	n, err := fs.write(fs.pending)
	if n > 0 {
		fs.pending = fs.pending[n:]
		fs.stalled.Store(0)
		fs.discarded.Store(false)
	}
	switch {
	case err != nil:
		return false
	case len(fs.pending) == 0:
		fs.pending = nil
	case fs.stalled.Load() == 0:
		fs.stalled.Store(fs.server.now())
	}
	return true
}

// late reports that what is pending is not to be waited for: the stream is at its end anyway, or the client
// has taken nothing for too long.
func (fs *fdStream) late() bool {
	stalled := time.Duration(fs.server.now() - fs.stalled.Load())
	if stalled >= discardAfter {
		fs.session.Discard()
		fs.discarded.Store(true)
	}
	if stalled < fs.server.config.WriteTimeout {
		return fs.ending.Load() || fs.over() || fs.session.Ended()
	}
	fs.server.stats.Stalled.Add(1)
	fs.closeByReset()
	return true
}

// keep holds on to the rest of a chunk. It is copied out of the worker's scratch, while the frame of a single
// event stays shared.
func (fs *fdStream) keep(rest []byte, scratch *scratch) error {
	fs.pending = rest
	if scratch.used {
		fs.pending = bytes.Clone(rest)
	}
	return fs.kept(len(rest), scratch) //nolint:wrapcheck // only whether there is one matters
}

// write writes as much as the socket takes now, and counts it.
func (fs *fdStream) write(b []byte) (int, error) {
	n, err := fs.socket.write(b)
	if n > 0 {
		fs.access.Bytes += int64(n)
		fs.wrote(n)
	}
	return n, err
}

// end closes a stream's connection and forgets it.
func (l *loop) end(fs *fdStream) {
	l.sockets.release(fs)
	l.server.end(&fs.stream)
	fs.access.Done(l.server.log)
	l.count(-1)
}
