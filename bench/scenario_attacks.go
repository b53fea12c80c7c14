//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// attack is what one tenant does to the memory of the service.
type attack struct {
	name    string
	before  string   // SQL that is run before its connections are there
	during  []string // SQL that is run when they are
	clients []clients
}

// clients are connections that take nothing of their answers.
type clients struct {
	path     string
	http2    bool
	conns    int
	requests int // over each connection
	gzip     bool
	says     string // instead of requests
	again    bool   // and again, over a new connection as soon as one has ended
}

const (
	smallEvents = `insert into events (type, subscriber, payload) select 'insert', 'toto', ('"' || repeat('x', 1000) || '"')::json from generate_series(1, 1000)`
	largeEvents = `insert into events (type, subscriber, payload) select 'insert', 'toto', ('"' || repeat('x', 4000000) || '"')::json from generate_series(1, 4)`
	// slowBody announces a body and never sends it.
	slowBody   = "POST /events/poll HTTP/1.1\r\nHost: x\r\nX-Consumer-Id: toto\r\nContent-Length: 60000\r\n\r\n{"
	nobody     = "GET /events HTTP/1.1\r\nHost: x\r\n\r\n" // is not said who asks
	manySpaces = `do $$ begin for i in 1..20 loop insert into events (type, subscriber, payload) values ('insert', 'toto', ('{"a":' || repeat(' ', 10000000) || '1}')::json); commit; end loop; end $$`
)

var (
	noWindow  = clients{path: "/events/poll?after=0&limit=1000", http2: true, conns: 4, requests: 250}
	zipped    = clients{path: noWindow.path, http2: true, conns: 4, requests: 250, gzip: true}
	liveHTTP1 = clients{path: "/events", conns: 300, requests: 1}
	liveHTTP2 = clients{path: "/events", http2: true, conns: 2, requests: 150}
	old       = clients{path: "/events?after=0", http2: true, conns: 2, requests: 150}
	few       = clients{path: "/events", conns: 20, requests: 1}
	slow      = clients{conns: 500, says: slowBody}
	silent    = clients{conns: 3000}
	strangers = clients{conns: 20, says: strings.Repeat(nobody, 50), again: true}
)

// attacks has a tenant whose clients read nothing, while the events of 20 others are timed, in a memory cgroup as
// Kubernetes sets it.
func attacks(ctx context.Context, b *bench) error {
	pollProgram, err := build(ctx, b.dir, "poll")
	if err != nil {
		return err
	}
	stream := victim{b.stream, sse, "/events", 512 << 20, "GOMEMLIMIT=450MiB"}
	poller := victim{pollProgram, poll, "/events/poll", 256 << 20, "GOMEMLIMIT=220MiB"}
	t := newTable("attacks: one tenant's clients read nothing; 20 others get 100 events/s", "attack", "RSS MB", "most",
		"cgroup most", "sockets most", "OOM kills", "others' p50", "p99")
	for _, a := range []struct {
		attack
		on victim
	}{
		{attack{name: "none"}, stream},
		{attack{"1,000 polls over h2c, no window", smallEvents, nil, []clients{noWindow}}, stream},
		{attack{"the same, gzip", smallEvents, nil, []clients{zipped}}, stream},
		{attack{"300 streams over HTTP/1.1, live 4 MB", "", []string{largeEvents}, []clients{liveHTTP1}}, stream},
		{attack{"300 streams over h2c, live 4 MB", "", []string{largeEvents}, []clients{liveHTTP2}}, stream},
		{attack{"300 streams over h2c, old 4 MB", largeEvents, nil, []clients{old}}, stream},
		{attack{"20 events of 10 MB of spaces", "", []string{manySpaces}, []clients{few}}, stream},
		{attack{"all of these, slow bodies, silent connections, strangers", smallEvents, []string{largeEvents, manySpaces},
			[]clients{noWindow, zipped, liveHTTP1, liveHTTP2, old, few, slow, silent, strangers}}, stream},
		{attack{name: "poll, 256 MB: none"}, poller},
		{attack{"poll, 256 MB: all but streams", smallEvents, []string{largeEvents, manySpaces},
			[]clients{noWindow, zipped, slow, silent, strangers}}, poller},
	} {
		if err := b.attack(ctx, t, a.attack, a.on); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	t.print(b.out)
	return nil
}

// victim is a program with what its manifest gives it.
type victim struct {
	program string
	kind    kind
	path    string
	memory  int
	garbage string
}

func (b *bench) attack(ctx context.Context, t *table, a attack, on victim) error {
	group, err := newMemoryGroup(on.memory)
	if err != nil {
		b.note("no memory cgroup, and so no limit: %v", err)
	}
	defer group.remove()
	r, err := b.newRigOf(ctx, on.program, on.garbage, "MAX_PAYLOAD_BYTES=16777216")
	if err != nil {
		return err
	}
	defer r.close(ctx)
	group.join(r.server.pid())
	if a.before != "" {
		if err := execute(ctx, r.dsn, a.before); err != nil {
			return err
		}
	}
	others := r.each(20)
	others.Kind, others.Path = on.kind, on.path
	if _, err := r.generator.open(others); err != nil {
		return err
	}
	var sockets int64
	done := make(chan struct{})
	var sampling sync.WaitGroup
	for _, c := range a.clients {
		leave, err := c.attack(r.server.address, done, &sampling)
		defer leave()
		if err != nil {
			return err
		}
	}
	sampling.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
				sockets = max(sockets, group.read("memory.kmem.tcp.usage_in_bytes"))
			}
		}
	})
	for _, statement := range a.during {
		sampling.Go(func() { b.complain(execute(ctx, r.dsn, statement)) })
	}
	d, err := r.deliver(ctx, offer{
		Rate: 100, For: b.length(15 * time.Second), Batch: 1, Writers: 2,
		Consumer: func(n int) string { return fmt.Sprint("c", n%20) },
	})
	close(done)
	sampling.Wait()
	rss, peak := memory(r.server.pid())
	kills := keyedWords(filepath.Join(string(group), "memory.oom_control"))["oom_kill"]
	if err != nil {
		t.row(a.name, rss>>20, peak>>20, group.read("memory.max_usage_in_bytes")>>20, sockets>>20, kills, "failed", err.Error())
		return nil
	}
	t.row(a.name, rss>>20, peak>>20, group.read("memory.max_usage_in_bytes")>>20, sockets>>20, kills,
		d.Latency.quantile(.5), d.Latency.quantile(.99))
	return nil
}

// attack connects. Those that come again do so until done.
func (c clients) attack(address string, done <-chan struct{}, running *sync.WaitGroup) (leave func(), err error) {
	var open []net.Conn
	leave = func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}
	for range c.conns {
		conn, err := c.connect(address)
		if err != nil {
			return leave, err
		}
		if !c.again {
			open = append(open, conn)
			continue
		}
		running.Go(func() {
			for {
				_ = conn.SetReadDeadline(time.Now().Add(time.Second))
				_, _ = io.Copy(io.Discard, conn) // until the server ends it, or the second does
				_ = conn.Close()
				select {
				case <-done:
					return
				default:
				}
				var err error
				if conn, err = c.connect(address); err != nil {
					return
				}
			}
		})
	}
	return leave, nil
}

// connect makes the requests over a new connection and takes nothing of their answers.
func (c clients) connect(address string) (net.Conn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if c.says != "" {
		_, err = io.WriteString(conn, c.says)
	}
	if c.requests == 0 {
		return conn, err
	}
	if !c.http2 {
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nX-Consumer-Id: toto\r\n\r\n", c.path)
		return conn, err
	}
	// RFC 9113: the preface, settings with SETTINGS_INITIAL_WINDOW_SIZE 0, and a block of headers for each request
	// that indexes nothing (RFC 7541, section 6.2.2).
	b := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	b = append(b, 0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0)
	if _, err := conn.Write(b); err != nil {
		return conn, err
	}
	head := make([]byte, 9)
	if _, err := io.ReadFull(conn, head); err != nil {
		return conn, err
	}
	b = []byte{0, 0, 0, 4, 1, 0, 0, 0, 0} // acknowledges the server's
	for i := range c.requests {
		block := []byte{0x82, 0x86, 0x04, byte(len(c.path))} //nolint:gosec // a few dozen
		block = append(block, c.path...)
		block = append(block, "\x01\x01x\x00\x0dx-consumer-id\x04toto"...)
		if c.gzip {
			block = append(block, 0x90)
		}
		b = append(b, 0, 0, byte(len(block)), 1, 5) //nolint:gosec // a few dozen
		b = binary.BigEndian.AppendUint32(b, uint32(2*i+1))
		b = append(b, block...)
	}
	if _, err = conn.Write(b); err == nil {
		go func() { _, _ = io.Copy(io.Discard, conn) }() // frames of control; of data there are none
	}
	return conn, err
}

// memoryGroup is the directory of a memory cgroup (version 1), "" if there is none.
type memoryGroup string

func newMemoryGroup(limit int) (memoryGroup, error) {
	path := fmt.Sprintf("/sys/fs/cgroup/memory/event-piper-bench-%d", os.Getpid())
	if err := os.Mkdir(path, 0o755); err != nil { //nolint:gosec // the kernel makes it
		return "", err
	}
	g := memoryGroup(path)
	// A limit on TCP's buffers makes the kernel count them for the group.
	for _, file := range []string{"memory.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"} {
		if err := g.write(file, limit); err != nil {
			g.remove()
			return "", err
		}
	}
	return g, nil
}

func (g memoryGroup) write(file string, n int) error {
	return os.WriteFile(filepath.Join(string(g), file), []byte(strconv.Itoa(n)), 0o600)
}

func (g memoryGroup) join(pid int) {
	if g != "" {
		_ = g.write("cgroup.procs", pid)
	}
}

func (g memoryGroup) remove() {
	if g != "" {
		_ = os.Remove(string(g))
	}
}

func (g memoryGroup) read(file string) int64 {
	b, _ := os.ReadFile(filepath.Join(string(g), file)) //nolint:gosec // below /sys
	n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n
}

// keyedWords reads a file of lines such as "oom_kill 0".
func keyedWords(path string) map[string]int64 {
	b, _ := os.ReadFile(path) //nolint:gosec // below /sys
	values := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) == 2 {
			values[fields[0]], _ = strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return values
}
