package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"
)

// fault is what the proxy does to answers.
type fault int

const (
	none          fault = iota
	cut                 // the connection breaks somewhere in the body
	closeEarly          // the body ends somewhere, as if it were complete
	stall               // somewhere in the body nothing comes any more
	badGateway          // 502, and what is open breaks
	refuseStreams       // 403 for streams, and what is open breaks; polls pass
	buffer              // the body is kept until it is complete, which a stream's never is
)

// proxy stands for the gateway: it says who the consumer is.
type proxy struct {
	url    string
	target *url.URL
	server *httptest.Server

	mu sync.Mutex
	// Guarded by mu.
	fault   fault
	changed chan struct{} // closed when the fault changes
	seen    map[string]*traffic
}

// traffic is what one reader has asked for.
type traffic struct {
	streams, polls int // requests
	open           int // streams whose first bytes were passed on
}

func newProxy(target, web string) (*proxy, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	p := &proxy{target: to, changed: make(chan struct{}), seen: map[string]*traffic{}}
	mux := http.NewServeMux()
	mux.Handle("/events", p)
	mux.Handle("/events/", p)
	mux.Handle("/", http.FileServer(http.Dir(web)))
	p.server = httptest.NewServer(mux)
	p.url = p.server.URL
	return p, nil
}

func (p *proxy) close() {
	p.set(badGateway) // ends the streams, which Close would wait for
	p.server.CloseClientConnections()
	p.server.Close()
}

func (p *proxy) set(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *proxy) now() (fault, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault, p.changed
}

// traffic changes what is known of a reader.
func (p *proxy) note(reader string, change func(*traffic)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen[reader] == nil {
		p.seen[reader] = new(traffic)
	}
	change(p.seen[reader])
}

func (p *proxy) traffic(reader string) (t traffic) {
	p.note(reader, func(now *traffic) { t = *now })
	return t
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reader := r.Header.Get("X-Reader")
	stream := strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	p.note(reader, func(t *traffic) {
		if stream {
			t.streams++
		} else {
			t.polls++
		}
	})
	switch f, _ := p.now(); {
	case f == badGateway:
		http.Error(w, "<h1>502 Bad Gateway</h1>", http.StatusBadGateway)
		return
	case f == refuseStreams && stream:
		http.Error(w, "<h1>blocked by policy</h1>", http.StatusForbidden)
		return
	}
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = p.target.Scheme, p.target.Host
	out.Header.Set("X-Consumer-Id", consumer)
	out.Header.Set("Accept-Encoding", "identity")
	response, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		http.Error(w, "<h1>502 Bad Gateway</h1>", http.StatusBadGateway)
		return
	}
	defer func() { _ = response.Body.Close() }()
	header := w.Header()
	for name, values := range response.Header {
		if name != "Content-Length" {
			header[name] = values
		}
	}
	w.WriteHeader(response.StatusCode)
	open := 0
	defer func() { p.note(reader, func(t *traffic) { t.open -= open }) }()
	p.pass(w, response.Body, func() {
		if stream {
			open = 1
			p.note(reader, func(t *traffic) { t.open++ })
		}
	})
}

// pass copies a body as far as the fault lets it. It calls started when the first bytes are out.
func (p *proxy) pass(w http.ResponseWriter, body io.Reader, started func()) {
	began, _ := p.now()
	var kept []byte
	left := between(0, 3000)
	if began == stall {
		left = between(0, 30000) // so that some gets through
	}
	chunk := make([]byte, 4096)
	for {
		n, err := body.Read(chunk)
		now, changed := p.now()
		part := chunk[:n]
		switch now {
		case badGateway, refuseStreams:
			if now != began {
				panic(http.ErrAbortHandler)
			}
		case cut, closeEarly, stall:
			part = part[:max(0, min(left, n))]
		}
		left -= len(part)
		if now == buffer {
			kept, part = append(kept, part...), nil
		}
		if err != nil {
			part = append(kept, part...)
		}
		if _, err := w.Write(part); err != nil {
			return
		}
		if now != buffer || err != nil {
			_ = http.NewResponseController(w).Flush()
			if started != nil && len(part) > 0 {
				started()
				started = nil
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if left > 0 {
			continue
		}
		switch now {
		case cut:
			// What has arrived a moment before, a browser may throw away.
			time.Sleep(time.Duration(between(0, 50)) * time.Millisecond)
			panic(http.ErrAbortHandler)
		case closeEarly:
			return
		case stall:
			<-changed
			panic(http.ErrAbortHandler)
		}
	}
}
