//go:build unix

package blackbox_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// memoryBound is, in MB, what a server may take under what these tests do to it. The race detector's shadow
// is several times that.
func memoryBound(mb int) int {
	if race {
		return 8 * mb
	}
	return mb
}

// wantMemory checks a server's memory now, and prints it.
func wantMemory(t testing.TB, p *program, when string, bound int) {
	t.Helper()
	got := p.rss(t)
	t.Logf("%s: %d MB", when, got)
	if bound := memoryBound(bound); got > bound {
		t.Errorf("%s: want at most %d MB, got %d", when, bound, got)
	}
}

// raw sends bytes over a connection of its own and returns the answer, nil if there was none.
func raw(t testing.TB, addr, request string) *answer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(conn, request) }() // may be refused before it has been read to its end
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("want an answer or an end to %.80q, got none", request)
	}
	if err != nil {
		return nil
	}
	body, _ := io.ReadAll(response.Body) // as much as there is
	return &answer{request: fmt.Sprintf("%.80q", request), status: response.StatusCode, header: response.Header, body: string(body)}
}

// TestMalice asks for what no client of good will asks for.
func TestMalice(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	for _, name := range []string{"stream", "poll"} {
		t.Run(name, func(t *testing.T) {
			p := start(t, name, "DATABASE_URL="+dsn, "READ_HEADER_TIMEOUT=2s")
			line := func(s string) string { return "GET " + s + " HTTP/1.1\r\nHost: x\r\n" }
			good := line("/events/poll?wait=0") + "Connection: close\r\nX-Consumer-Id: toto\r\n"
			if a := raw(t, p.addr, good+"\r\n"); a == nil || a.status != http.StatusOK {
				t.Fatalf("a good request: want 200, got %+v", a)
			}
			for _, c := range []struct {
				name, request string
				status        []int // any of these; 0 is no answer at all
			}{
				{"1 MB of headers", good + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", []int{431}},
				{"many headers", good + strings.Repeat("X-Y: z\r\n", 100_000) + "\r\n", []int{431}},
				{"long URL", line("/events/poll?types="+strings.Repeat("x", 10_000)) + "X-Consumer-Id: toto\r\nConnection: close\r\n\r\n", []int{414}},
				{"very long URL", line("/" + strings.Repeat("x", 1<<20)), []int{431}},
				{"NUL in a header", good + "Prefer: wait=\x000\r\n\r\n", []int{400}},
				{"CR in a header", good + "Prefer: wait=\r0\r\n\r\n", []int{400}},
				{"NUL in the consumer", line("/events/poll?wait=0") + "X-Consumer-Id: to\x00to\r\n\r\n", []int{400}},
				{"CR in the consumer", line("/events/poll?wait=0") + "X-Consumer-Id: to\rto\r\n\r\n", []int{400}},
				{"C1 control in the consumer", line("/events/poll?wait=0") + "Connection: close\r\nX-Consumer-Id: to\u0085to\r\n\r\n", []int{400}},
				{"not UTF-8 in the consumer", line("/events/poll?wait=0") + "Connection: close\r\nX-Consumer-Id: to\xff\r\n\r\n", []int{400}},
				{"two consumers", good + "X-Consumer-Id: other\r\n\r\n", []int{400}},
				{"NUL in the cursor of a stream", line("/events") + "X-Consumer-Id: toto\r\nLast-Event-ID: 1\x00\r\n\r\n", []int{400}},
				{"NUL in the path", line("/events\x00") + "Connection: close\r\n\r\n", []int{400}},
				{"CR in the path", line("/events\r") + "Connection: close\r\n\r\n", []int{400}},
				{"line break in the path", line("/events%0d%0aX-Forged:%20yes") + "Connection: close\r\n\r\n", []int{404}},
				{"line break in a cursor", line("/events/poll?after=1%0d%0aX-Forged:%20yes") + "Connection: close\r\nX-Consumer-Id: toto\r\n\r\n", []int{422}},
				{"line break in types", line("/events/poll?types=a%0d%0aX-Forged:%20yes") + "Connection: close\r\nX-Consumer-Id: toto\r\n\r\n", []int{422}},
				{"NUL in types", line("/events/poll?types=%00") + "Connection: close\r\nX-Consumer-Id: toto\r\n\r\n", []int{422}},
				{"no query", line("/events/poll?%zz=%") + "Connection: close\r\nX-Consumer-Id: toto\r\n\r\n", []int{400, 422}},
				{"body that never comes", "POST /events/poll HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n", []int{405, 408}},
				{"body of a GET that never comes", good + "Content-Length: 10\r\n\r\n", []int{408}},
				{"two lengths", good + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", []int{400}},
				{"two framings", good + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{200, 400}},
				{"no host", "GET /events HTTP/1.1\r\n\r\n", []int{400}},
				{"no HTTP", "\x16\x03\x01\x02\x00\x01\x00", []int{0, 400}},
				{"nothing but an end", "\r\n\r\n", []int{400}},
			} {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					a, status := raw(t, p.addr, c.request), 0
					if a != nil {
						status = a.status
						if a.header.Get("X-Forged") != "" || strings.Contains(a.body, "\nX-Forged") {
							t.Errorf("want no header forged, got %v %q", a.header, a.body)
						}
					}
					for _, want := range c.status {
						if status == want {
							return
						}
					}
					t.Errorf("want one of %v, got %+v", c.status, a)
				})
			}
			t.Cleanup(func() {
				if a := raw(t, p.addr, good+"\r\n"); a == nil || a.status != http.StatusOK {
					t.Errorf("a good request afterwards: want 200, got %+v", a)
				}
				for _, line := range p.stderr.list() {
					if !json.Valid([]byte(line)) || bytes.ContainsFunc([]byte(line), func(r rune) bool { return r < ' ' }) {
						t.Errorf("want one line of JSON for each entry of the log, got %q", line)
					}
				}
				wantMemory(t, p, "after malice", 100)
				p.stop(t)
			})
		})
	}
}

// TestSlowClients has clients that send byte by byte, that send nothing, and that never read, while others
// are served. All of them are let go in the end.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	const dripping, silent, gluttons = 100, 500, 1000
	dsn := pgtest.New(t)
	db := connect(t, dsn)
	p := start(t, "stream", "DATABASE_URL="+dsn, "READ_HEADER_TIMEOUT=3s", "WRITE_TIMEOUT=3s")
	db.exec(t, `insert into events (type, timestamp, subscriber, payload)
		select 'insert', now(), case n % 2 when 0 then 'glutton' else 'guest' end, to_json(repeat('x', 20000))
		from generate_series(1, 1000) n`) // 10 MB for each
	wantMemory(t, p, "at the start", 100)

	var conns []net.Conn
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		return conn
	}
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	for range gluttons {
		conn := dial()
		_ = conn.(*net.TCPConn).SetReadBuffer(4096)
		_, err := io.WriteString(conn, "GET /events?after=0 HTTP/1.1\r\nHost: x\r\nX-Consumer-Id: glutton\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
	}
	var refused []net.Conn
	for range silent {
		refused = append(refused, dial())
	}
	stop := make(chan struct{})
	var drip sync.WaitGroup
	for range dripping {
		conn := dial()
		refused = append(refused, conn)
		drip.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for _, b := range []byte("GET /events HTTP/1.1\r\nX-Slow: " + strings.Repeat("loris ", 1000)) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				select {
				case <-tick.C:
				case <-stop:
					return
				}
			}
		})
	}
	defer func() { close(stop); drip.Wait() }()

	// Meanwhile others are served, live and from history.
	c := gather(t, p.addr, 20, 5)
	for n := range 200 {
		db.insert(t, consumerName(n%5), "insert", `{}`)
	}
	mustOpen(t, p.addr, "guest", 0).want(t, db.ids(t, "guest")...)
	c.end(t, db)
	wantMemory(t, p, "with slow clients", 300)

	for i, conn := range refused {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d of %d without a request: want an end, got none", i, len(refused))
		}
	}
	ended := 0
	p.stderr.await(t, fmt.Sprint(gluttons, " clients that do not read to be let go"), func(line string) bool {
		var entry struct{ Msg, Consumer string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "request" && entry.Consumer == "glutton" {
			ended++
		}
		return ended == gluttons
	})
	wantMemory(t, p, "when they are gone", 300)
	p.stop(t)
}

// TestManyPolls has 5,000 polls wait on one container.
func TestManyPolls(t *testing.T) {
	t.Parallel()
	polls := 5000
	if race {
		polls = 1000
	}
	dsn := pgtest.New(t)
	db := connect(t, dsn)
	p := start(t, "poll", "DATABASE_URL="+dsn, fmt.Sprint("MAX_SESSIONS=", polls), fmt.Sprint("MAX_SESSIONS_PER_CONSUMER=", polls))
	empty := p.rss(t)
	s := site{base: p.url(""), db: db}
	full := func() bool {
		return s.poll(t, "toto", "wait=0").status == http.StatusServiceUnavailable
	}

	waiting := make([]net.Conn, polls)
	for i := range waiting {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET /events/poll?wait=300&after=0 HTTP/1.1\r\nHost: x\r\nX-Consumer-Id: toto\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		waiting[i] = conn
	}
	eventually(t, "as many polls to wait as may", full)
	full503 := s.poll(t, "toto", "wait=0")
	full503.problem(t, http.StatusServiceUnavailable)
	if full503.header.Get("Retry-After") == "" {
		t.Error("want a 503 with Retry-After, got none")
	}
	if got := query[int](t, db, "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'event-piper poll'"); got != 1 {
		t.Errorf("with %d waiting polls: want one connection, got %d", polls, got)
	}
	wantMemory(t, p, fmt.Sprintf("%d waiting polls, %d MB before", polls, empty), 300)

	// One that goes away makes room.
	_ = waiting[0].Close()
	eventually(t, "the place of a poll whose client has left", func() bool { return !full() })

	id := db.insert(t, "toto", "insert", `{}`)
	want := fmt.Sprintf(`"cursor":%d,"more":false}`, id)
	for i, conn := range waiting[1:] {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		response, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), nil)
		if err != nil {
			t.Fatalf("poll %d: %v", i, err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK || !strings.HasSuffix(string(body), want) {
			t.Fatalf("poll %d: want 200 with event %d, got %s %s (%v)", i, id, response.Status, body, err)
		}
	}
}
