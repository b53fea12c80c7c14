package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// proxy stands for the gateway and the network between a client and the service: it adds the consumer to each request,
// holds connections up, and cuts them. Each connection carries one request, whose answer passes byte for byte.
type proxy struct {
	listener net.Listener
	upstream string
	consumer string
	opened   chan struct{} // gets one for each stream whose first frame has passed
	refused  chan struct{} // gets one for each request that was turned away, or whose connection failed
	cut      chan struct{} // gets one for each connection that was cut inside of an event

	mu sync.Mutex
	// All below is guarded by mu.
	conns map[net.Conn]struct{}
	held  chan struct{} // requests wait until it is closed; nil if none do
	// inside cuts the next connection that passes bytes of a large event, and reset says how.
	inside, reset bool
	requests      []string // the cursor of each request, for the log
}

// newProxy listens on a free port.
func newProxy(upstream, consumer string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{
		listener: l, upstream: upstream, consumer: consumer, conns: map[net.Conn]struct{}{},
		opened: make(chan struct{}, 1000), refused: make(chan struct{}, 1000), cut: make(chan struct{}, 1000),
	}
	go p.accept()
	return p, nil
}

func (p *proxy) url() string { return "http://" + p.listener.Addr().String() + "/events" }

func (p *proxy) close() {
	_ = p.listener.Close()
	p.release()
	p.hangUp()
}

// hold makes requests wait until release.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = make(chan struct{})
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

// hangUp ends all connections, the client's with a FIN.
func (p *proxy) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// cutNext cuts the next connection inside of an event.
func (p *proxy) cutNext(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside, p.reset = true, reset
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c.(*net.TCPConn))
	}
}

func (p *proxy) serve(c *net.TCPConn) {
	defer func() { _ = c.Close() }()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	stream := r.URL.Path == "/events" // a browser asks for more
	p.mu.Lock()
	p.requests = append(p.requests, r.URL.Path+": "+fmt.Sprintf("Accept %q, cursor %q", r.Header.Get("Accept"), r.Header.Get("Last-Event-ID")))
	held := p.held
	p.mu.Unlock()
	if held != nil {
		<-held
	}
	up, err := net.Dial("tcp", p.upstream)
	if err != nil {
		_ = c.SetLinger(0)
		signal(p.refused)
		return
	}
	defer func() { _ = up.Close() }()
	p.mu.Lock()
	p.conns[c], p.conns[up] = struct{}{}, struct{}{}
	p.mu.Unlock()
	r.Header.Set("X-Consumer-Id", p.consumer)
	r.Close = true // each request has a connection of its own
	if err := r.Write(up); err != nil {
		return
	}
	go func() { // until the client leaves
		_, _ = io.Copy(io.Discard, c)
		_ = up.Close()
	}()
	p.pass(c, up, stream)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	delete(p.conns, up)
}

// pass copies the answer until either side ends or the connection is to be cut.
func (p *proxy) pass(c *net.TCPConn, up net.Conn, stream bool) {
	var begin []byte
	begun := !stream
	for b := make([]byte, 8<<10); ; {
		n, err := up.Read(b)
		if err != nil {
			return
		}
		if begun && p.cutHere(b[:n]) {
			if p.reset {
				_ = c.SetLinger(0)
			}
			signal(p.cut)
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		if begun {
			continue
		}
		begin = append(begin, b[:n]...)
		if begun = bytes.Contains(begin, []byte("\nretry: ")); begun || bytes.HasPrefix(begin, []byte("HTTP/1.1 4")) || bytes.HasPrefix(begin, []byte("HTTP/1.1 5")) {
			if bytes.Contains(begin, []byte("Transfer-Encoding")) {
				signal(p.opened)
			} else {
				signal(p.refused) // turned away: the answer is complete
			}
			begun = true
		}
	}
}

// signal gives a signal, unless so many have not been taken that nobody will.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// cutHere reports that these bytes, of which the client gets nothing, are from the middle of a large event.
func (p *proxy) cutHere(b []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.inside || !bytes.HasSuffix(b, []byte("xxxx")) || !bytes.HasPrefix(b, []byte("xxxx")) {
		return false
	}
	p.inside = false
	return true
}
