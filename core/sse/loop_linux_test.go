package sse

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// dial connects to a service and sends text.
func dial(t *testing.T, s *service, text string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatalf("send: %v", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatalf("set a deadline: %v", err)
	}
	return conn.(*net.TCPConn)
}

// readThrough reads until text has come.
func readThrough(t *testing.T, r io.Reader, text string) string {
	t.Helper()
	var got []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(got), text); {
		if _, err := r.Read(b); err != nil {
			t.Fatalf("read: %v after %q, want %q", err, got, text)
		}
		got = append(got, b[0])
	}
	return string(got)
}

const (
	plainRequest = "GET /events HTTP/1.1\r\nHost: x\r\nX-Consumer-Id: toto\r\n\r\n"
	// oldRequest is answered without chunks.
	oldRequest = "GET /events HTTP/1.0\r\nHost: x\r\nX-Consumer-Id: toto\r\n\r\n"
)

func TestWhatGoesOverTheWire(t *testing.T) {
	for _, version := range []string{"1.0", "1.1"} {
		s := newService(t, ways[0])
		conn := dial(t, s, strings.Replace(plainRequest, "1.1", version, 1))
		head := readThrough(t, conn, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\nDate: ") {
			t.Errorf("the head is %q, want it to begin with the status and the date", head)
		}
		want := []string{
			"Connection: close", "Content-Type: text/event-stream", "Cache-Control: no-cache", "X-Accel-Buffering: no",
		}
		chunk := func(frame string) string { return frame }
		end := ""
		if version == "1.1" {
			want = append(want, "Transfer-Encoding: chunked")
			chunk = func(frame string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(frame), frame) }
			end = lastChunk
		} else if strings.Contains(head, "Transfer-Encoding") {
			t.Errorf("the head is %q, want no chunks, which HTTP/1.0 does not know", head)
		}
		for _, line := range want {
			if n := strings.Count(head, "\r\n"+line+"\r\n"); n != 1 {
				t.Errorf("the head has %q %d times, want once: %q", line, n, head)
			}
		}
		if strings.Contains(head, "Content-Length") {
			t.Errorf("the head is %q, want no length", head)
		}
		first := readThrough(t, conn, "\n\n")
		if version == "1.1" {
			_, first, _ = strings.Cut(first, "\r\n")
			readThrough(t, conn, "\r\n")
		}
		if cursor, retry := heartbeatOf(t, first); cursor != 0 || retry == 0 {
			t.Errorf("the first frame is %q, want cursor 0 and a retry", first)
		}
		s.store.Insert("toto", "insert", `1`)
		event := chunk(frame(1, "insert", `1`))
		if got := readThrough(t, conn, event); got != event {
			t.Errorf("got %q, want %q", got, event)
		}
		s.Close()
		if rest, err := io.ReadAll(conn); string(rest) != end || err != nil {
			t.Errorf("at the end came %q, %v; want %q and the end", rest, err, end)
		}
	}
}

func TestALineBreakInAHeaderForgesNothing(t *testing.T) {
	s := newService(t, ways[0], func(c *setup) {
		c.listening = func(srv *httptest.Server) {
			next := srv.Config.Handler
			srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Forged", "a\r\nX-Evil: b\n\nevent: c")
				next.ServeHTTP(w, r)
			})
		}
	})
	head := readThrough(t, dial(t, s, plainRequest), "\r\n\r\n")
	if !strings.Contains(head, "\r\nX-Forged: a  X-Evil: b  event: c\r\n") {
		t.Errorf("the head is %q, want the value in one line", head)
	}
}

func TestAClientThatStopsSendingHasLeft(t *testing.T) {
	s := newService(t, ways[0])
	conn := dial(t, s, plainRequest)
	readThrough(t, conn, "retry: ")
	if err := conn.CloseWrite(); err != nil {
		t.Fatalf("close half: %v", err)
	}
	eventually(t, "the session to end", func() bool { return s.hub.Sessions() == 0 })
}

func TestWhatAClientSendsAfterItsRequestIsIgnored(t *testing.T) {
	s := newService(t, ways[0])
	pipelined := dial(t, s, oldRequest+oldRequest)
	garbage := dial(t, s, oldRequest+"\x00\xff nonsense")
	for _, conn := range []net.Conn{pipelined, garbage} {
		readThrough(t, conn, "retry: ")
		readThrough(t, conn, "\n\n")
	}
	if _, err := io.WriteString(garbage, strings.Repeat("x", 10_000)); err != nil {
		t.Fatalf("send: %v", err)
	}
	s.store.Insert("toto", "insert", `1`)
	for _, conn := range []net.Conn{pipelined, garbage} {
		if got, want := readThrough(t, conn, "\n\n"), frame(1, "insert", `1`); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if n := s.Stats().Streams.Load(); n != 2 {
		t.Errorf("%d streams were started, want 2", n)
	}
	_ = garbage.Close() // with everything it sent unread
	_ = pipelined.Close()
	eventually(t, "the sessions to end", func() bool { return s.hub.Sessions() == 0 })
}

func TestAStalledClientThatReadsOnMissesNothing(t *testing.T) {
	s := newService(t, ways[0], func(c *setup) { c.limits.TailBytes = 1 << 20 })
	conn := dial(t, s, oldRequest)
	readThrough(t, conn, "retry: ")
	readThrough(t, conn, "\n\n")
	payload := `"` + strings.Repeat("x", 64<<10) + `"`
	var n int64
	for stalled(s) == 0 {
		s.store.Insert("toto", "insert", payload)
		if n++; n > 10_000 {
			t.Fatalf("it took %d events without reading", n)
		}
	}
	for range 50 { // far beyond what memory keeps: these come from history
		s.store.Insert("toto", "insert", payload)
		n++
	}
	lines := bufio.NewReaderSize(conn, 128<<10)
	for id := range n {
		if got, want := idFirst(readFrame(t, lines)), frame(id+1, "insert", payload); got != want {
			t.Fatalf("got %.40q, want %.40q", got, want)
		}
	}
	eventually(t, "it not to be stalled any more", func() bool { return stalled(s) == 0 })
}

func readFrame(t *testing.T, r *bufio.Reader) (frame string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if frame += line; err != nil {
			t.Fatalf("read: %v after %.40q", err, frame)
		}
		if line == "\n" {
			return frame
		}
	}
}

// TestStalledClientsReadOnEachItsOwn has clients of different consumers stall in the midst of writes that
// carry many events, and then read on.
func TestStalledClientsReadOnEachItsOwn(t *testing.T) {
	s := newService(t, ways[0])
	const clients, events = 6, 2000
	payload := func(consumer string) string { return `"` + strings.Repeat(consumer, 2<<10) + `"` }
	for i := range clients {
		consumer := fmt.Sprint("c", i)
		tx := s.store.Begin()
		for range events {
			tx.Insert(consumer, "insert", payload(consumer))
		}
		tx.Commit()
	}
	eventually(t, "the hub to have read all", func() bool { return s.hub.Status().Position == clients*events })
	var conns []net.Conn
	for i := range clients {
		request := "GET /events?after=0 HTTP/1.0\r\nHost: x\r\nX-Consumer-Id: c%d\r\n\r\n"
		conns = append(conns, dial(t, s, fmt.Sprintf(request, i)))
	}
	eventually(t, "all to stall", func() bool { return stalled(s) == clients })
	for i, conn := range conns {
		lines := bufio.NewReader(conn)
		for head := ""; !strings.HasPrefix(head, "retry: "); {
			var err error
			if head, err = lines.ReadString('\n'); err != nil {
				t.Fatalf("read the head: %v", err)
			}
		}
		if _, err := lines.Discard(1); err != nil {
			t.Fatalf("read the retry's end: %v", err)
		}
		for n := range events {
			consumer := fmt.Sprint("c", i)
			want := frame(int64(i*events+n+1), "insert", payload(consumer))
			if got := idFirst(readFrame(t, lines)); got != want {
				t.Fatalf("%s: got %.60q, want %.60q", consumer, got, want)
			}
		}
	}
}

func TestAStalledClientIsReset(t *testing.T) {
	s := newService(t, ways[0], func(c *setup) { c.WriteTimeout = 100 * time.Millisecond })
	conn := dial(t, s, plainRequest)
	readThrough(t, conn, "retry: ")
	payload := `"` + strings.Repeat("x", 1<<20) + `"`
	for s.Stats().Stalled.Load() == 0 {
		s.store.Insert("toto", "insert", payload)
		s.store.Delete("toto", s.hub.Status().Position)
	}
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read on: %v, want %v: the kernel should not keep what nobody takes", err, syscall.ECONNRESET)
	}
}

// stalled counts the clients that have not taken what was written.
func stalled(s *service) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		if st.stalled.Load() != 0 {
			n++
		}
	}
	return n
}

func TestASignalMakesOneTurnThatBeginsAfterIt(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after int32
		queued        int
	}{
		{"waits", idle, queued, 1},
		{"has its turn before it", queued, queued, 0},
		{"may have looked already", running, signalled, 0},
		{"will look again", signalled, signalled, 0},
	} {
		l := &loop{}
		l.ready = sync.NewCond(&l.mu)
		fs := &fdStream{}
		fs.state.Store(c.before)
		l.signal(fs)
		if got := fs.state.Load(); got != c.after || len(l.queue) != c.queued {
			t.Errorf("a stream that %s: state %d and %d in the queue, want %d and %d", c.name, got, len(l.queue), c.after, c.queued)
		}
	}
}

// TestStalledClientsHoldLittleMemory has clients that read nothing of a history of many times what they may
// cost.
func TestStalledClientsHoldLittleMemory(t *testing.T) {
	s := newService(t, ways[0])
	payload := `"` + strings.Repeat("x", 4<<10) + `"`
	tx := s.store.Begin()
	for range 4000 {
		tx.Insert("toto", "insert", payload)
	}
	tx.Commit()
	eventually(t, "the hub to be at 4000", func() bool { return s.hub.Status().Position == 4000 })
	const clients = 50
	for range clients {
		dial(t, s, strings.Replace(plainRequest, "\r\n\r\n", "\r\nLast-Event-ID: 0\r\n\r\n", 1))
	}
	eventually(t, "all to stall", func() bool { return stalled(s) == clients })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s.Close()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if held := (int64(before.HeapAlloc) - int64(after.HeapAlloc)) / clients; held > 2*chunkBytes {
		t.Errorf("a stalled client holds %d bytes, want less than two chunks, %d", held, 2*chunkBytes)
	}
}

func TestAConnectionThatCannotBeTakenOverGetsAProblem(t *testing.T) {
	s := newService(t, ways[0], func(c *setup) {
		c.listening = func(srv *httptest.Server) {
			next := srv.Config.Handler
			srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
			})
		}
	})
	resp, cancel := s.get(t, http.MethodGet, "toto")
	defer cancel()
	wantProblem(t, resp, 503, "a stream cannot be started right now")
	if n := s.hub.Sessions(); n != 0 {
		t.Errorf("%d sessions are open, want none", n)
	}
}

// TestDescriptorsRunOut starts streams where every descriptor is taken: some fail, none is lost.
func TestDescriptorsRunOut(t *testing.T) {
	accepted := make(chan struct{}, 20)
	s := newService(t, ways[0], func(c *setup) {
		c.listening = func(srv *httptest.Server) {
			srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					accepted <- struct{}{}
				}
			}
		}
	})
	before := descriptors(t)
	var conns []net.Conn
	for range cap(accepted) {
		conns = append(conns, dial(t, s, ""))
		await(t, accepted, "the server to accept")
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatalf("getrlimit: %v", err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) }()
	tight := limit
	tight.Cur = uint64(descriptors(t))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &tight); err != nil {
		t.Fatalf("setrlimit: %v", err)
	}
	for _, conn := range conns {
		_, _ = io.WriteString(conn, plainRequest)
	}
	for _, conn := range conns {
		if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("read: %v, want an answer or the end", err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatalf("setrlimit: %v", err)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	eventually(t, "all sessions to end", func() bool { return s.hub.Sessions() == 0 })
	eventually(t, "all descriptors to be given back", func() bool { return descriptors(t) <= before })
}

// What the kernel may keep of a stream whose client does not read is bounded by options of its socket alone.
func TestSocketsOfStreamsAreBounded(t *testing.T) {
	s := newService(t, ways[0])
	readThrough(t, dial(t, s, plainRequest), "thump\n")
	sockets := s.loop.sockets
	sockets.mu.Lock()
	defer sockets.mu.Unlock()
	if len(sockets.byFD) != 1 {
		t.Fatalf("%d sockets, want the stream's", len(sockets.byFD))
	}
	for fd := range sockets.byFD {
		for _, c := range []struct {
			name                string
			level, option, most int
		}{
			{"TCP_NOTSENT_LOWAT", syscall.IPPROTO_TCP, tcpNotSentLowat, unsent},
			{"SO_SNDBUF", syscall.SOL_SOCKET, syscall.SO_SNDBUF, 2 * sendBuffer}, // socket(7): the kernel doubles it
		} {
			got, err := syscall.GetsockoptInt(int(fd), c.level, c.option)
			if err != nil || got < 1 || got > c.most {
				t.Errorf("%s is %d (%v), want up to %d", c.name, got, err, c.most)
			}
		}
	}
}
