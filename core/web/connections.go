package web

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxIdle bounds the connections that net/http holds, at some 21 KB each, without a request to answer.
	maxIdle = 2_000
	// spareConnections are let in above MAX_CONNECTIONS, to be told so.
	spareConnections = 100
	// resetsPerSecond is how many requests on one HTTP/2 connection may be given up by the client before they are
	// answered; ten times as many may be at once (CVE-2023-44487).
	resetsPerSecond = 100
	// soon is how soon after a request over HTTP/2 its answer may be given up for the request to count as one that was
	// made to be given up. It costs no more than another that is answered, so its connection is kept, but a line each
	// would fill a log.
	soon = time.Second
)

// connections is a listener that bounds the connections of a server. One that has sent nothing yet waits for
// its first byte here, for the tenth of the memory that net/http takes. When there are too many, the one that has
// been without a request for the longest is closed in favour of the new one; when all are busy, a few more are
// let in to be refused, see [connection.full], and others are closed.
//
// A connection that was hijacked, as of streams over HTTP/1.1, is none of these any more: it is a session.
type connections struct {
	net.Listener
	most    int // 0: any number
	timeout time.Duration
	ready   chan net.Conn
	ctx     context.Context // ends with the listener
	close   context.CancelFunc
	work    sync.WaitGroup
	failed  error // set before ctx ends

	mu  sync.Mutex
	all map[net.Conn]*connection // guarded by mu
	// silent have sent nothing, idle are net/http's and have no request; oldest first; guarded by mu.
	silent, idle list.List
}

// connection is what is known of one.
type connection struct {
	net.Conn
	// full says that it was let in above MAX_CONNECTIONS.
	full   bool
	resets *rate.Limiter

	// Guarded by the mu of its connections.
	queue *list.List // nil while it has a request
	place *list.Element
}

// newConnections starts to accept; 0 is no limit and no timeout.
func newConnections(l net.Listener, most int, timeout time.Duration) *connections {
	c := &connections{Listener: l, most: most, timeout: timeout, ready: make(chan net.Conn), all: map[net.Conn]*connection{}}
	c.ctx, c.close = context.WithCancel(context.Background())
	c.work.Go(c.run)
	return c
}

// run accepts until the listener is closed or broken. Errors that pass, as when files run out, are net/http's to
// wait for: it asks again.
func (c *connections) run() {
	for {
		conn, err := c.Listener.Accept()
		if temporary, ok := errors.AsType[net.Error](err); ok && temporary.Temporary() { //nolint:staticcheck // net/http does, too
			wait(c.ctx, 50*time.Millisecond)
			continue
		}
		if err != nil {
			c.failed = err
			c.close()
			return
		}
		if c.admit(conn) {
			c.work.Go(func() { c.await(conn) })
		} else {
			_ = conn.Close() // nothing was said on it
		}
	}
}

// await waits for the first byte of a connection and hands it on.
func (c *connections) await(conn net.Conn) {
	if c.timeout > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(c.timeout)) // fails only if it is closed, which is noticed next
	}
	if awaitByte(conn) != nil || conn.SetReadDeadline(time.Time{}) != nil {
		c.forget(conn)
		_ = conn.Close() // it is broken, or has sent nothing for too long
		return
	}
	select {
	case c.ready <- conn:
	case <-c.ctx.Done():
		c.forget(conn)
		_ = conn.Close() // nobody will answer on it
	}
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	select {
	case conn := <-c.ready:
		return conn, nil
	case <-c.ctx.Done():
		return nil, c.failed
	}
}

// Close implements net.Listener. Connections that have sent nothing are closed, too.
func (c *connections) Close() error {
	err := c.Listener.Close()
	<-c.ctx.Done()
	c.mu.Lock()
	for e := c.silent.Front(); e != nil; e = e.Next() {
		_ = e.Value.(*connection).Close() // which ends its wait
	}
	c.mu.Unlock()
	c.work.Wait()
	return err
}

// admit makes room for a connection, or reports that there is none.
func (c *connections) admit(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > 0 && len(c.all) >= c.most && !c.evict(&c.silent) && !c.evict(&c.idle) && len(c.all) >= c.most+spareConnections {
		return false
	}
	k := &connection{
		Conn: conn, full: c.most > 0 && len(c.all) >= c.most,
		resets: rate.NewLimiter(resetsPerSecond, 10*resetsPerSecond),
	}
	c.all[conn] = k
	k.line(&c.silent)
	return true
}

// evict closes the connection that has been in a queue for the longest, if there is one.
func (c *connections) evict(queue *list.List) bool {
	first := queue.Front()
	if first == nil {
		return false
	}
	k := first.Value.(*connection)
	k.line(nil)
	delete(c.all, k.Conn)
	_ = k.Close() // whoever reads from it forgets it
	return true
}

// line moves a connection to the end of a queue, or out of all of them.
func (k *connection) line(queue *list.List) {
	if k.queue != nil {
		k.queue.Remove(k.place)
	}
	if k.queue = queue; queue != nil {
		k.place = queue.PushBack(k)
	}
}

func (c *connections) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.all[conn]; k != nil {
		k.line(nil)
		delete(c.all, conn)
	}
}

// changed is the ConnState of the http.Server.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	conn = plain(conn)
	if state == http.StateClosed || state == http.StateHijacked {
		c.forget(conn)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.all[conn]
	if k == nil {
		return // closed for another's sake, and about to notice
	}
	if state == http.StateActive {
		k.line(nil)
		return
	}
	k.line(&c.idle)
	if c.idle.Len() > maxIdle {
		c.evict(&c.idle)
	}
}

// plain returns the connection below TLS.
func plain(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}

type connectionKey struct{}

// context is the ConnContext of the http.Server.
func (c *connections) context(ctx context.Context, conn net.Conn) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return context.WithValue(ctx, connectionKey{}, c.all[plain(conn)])
}

// connectionFrom returns the connection that a request came over, nil if it is not known.
func connectionFrom(ctx context.Context) *connection {
	k, _ := ctx.Value(connectionKey{}).(*connection)
	return k
}

// boundResets closes a connection on which a client opens requests only to give them up, each of which costs
// more here than there.
func boundResets(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if r.ProtoMajor != 2 || r.Context().Err() == nil {
			return
		}
		if a := AccessFrom(r.Context()); a.Status != 0 {
			a.abandoned = time.Since(a.start) < soon
			return
		}
		if k := connectionFrom(r.Context()); k != nil && !k.resets.Allow() {
			_ = k.Close() // net/http notices
		}
	})
}
