//go:build unix

package blackbox_test

import (
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// TestRollingRestart restarts two instances behind a balancer one after the other, under 1,000 sessions that
// come back when they are told to. Nothing is lost or repeated, and they do not come back in one moment.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	const sessions, consumers = 2000, 20
	// Ends are spread over 81% of DRAIN_TIME and returns over RETRY more: with the last restart all sessions
	// return, some 31% of them in a second. At once it would be all.
	env := []string{"LAME_DUCK=500ms", "DRAIN_TIME=4s", "RETRY=2s"}
	const bound = 0.6

	dsn := pgtest.New(t)
	env = append(env, "DATABASE_URL="+dsn)
	instances := []*program{start(t, "stream", env...), start(t, "stream", env...)}
	b := balance(t, len(instances))
	for i, p := range instances {
		b.set(i, p.addr)
	}
	b.awaitReady(t, 0, 1)

	returns := &moments{}
	c := &crowd{consumers: consumers}
	for i := range sessions {
		m := &member{consumer: consumerName(i % consumers)}
		m.stream = mustOpen(t, b.addr, m.consumer, 0)
		c.sessions = append(c.sessions, m)
		c.reading.Go(func() { m.err = m.readOn(b.addr, returns) })
	}
	stop := trickle(dsn, consumers, 20*time.Millisecond)
	defer stop()

	for i, p := range instances {
		p.signal(t, syscall.SIGTERM)
		p.exit(t, 0)
		b.set(i, start(t, "stream", env...).addr)
		b.awaitReady(t, i)
	}
	stop()
	c.end(t, connect(t, dsn))

	most, all := returns.most(), returns.count()
	share := float64(most) / sessions
	t.Logf("%d sessions returned %d times, at most %d (%.0f%%) in one second", sessions, all, most, 100*share)
	if share > bound {
		t.Errorf("want at most %.0f%% of the sessions to return in one second, got %.0f%%", 100*bound, 100*share)
	}
	if all < sessions {
		t.Errorf("want each session to have been ended at least once, but there were only %d returns", all)
	}
}

// readOn is read for a session that is ended now and then: it waits as long as it was told, and goes on from
// its cursor.
func (m *member) readOn(addr string, returns *moments) error {
	for {
		err := m.read()
		if err == nil {
			return nil
		}
		m.stream.close()
		for deadline := time.Now().Add(patience); ; {
			time.Sleep(m.stream.retry)
			var cursor int64
			if len(m.seen) > 0 {
				cursor = m.seen[len(m.seen)-1]
			}
			s, err := open(addr, m.consumer, cursor)
			if err == nil {
				m.stream = s
				returns.add()
				break
			}
			if time.Now().After(deadline) {
				return err
			}
		}
	}
}

// moments counts what happens in each second.
type moments struct {
	mu  sync.Mutex
	all []time.Time // ascending, nearly
}

func (m *moments) add() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, time.Now())
}

func (m *moments) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.all)
}

// most is the largest number within any second.
func (m *moments) most() (most int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for first, last := 0, 0; last < len(m.all); last++ {
		for m.all[last].Sub(m.all[first]) >= time.Second {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}

// balancer passes connections on to the servers that say they are ready, in turn.
type balancer struct {
	addr string

	mu       sync.Mutex
	backends []backend // guarded by mu
	turn     int       // guarded by mu
}

type backend struct {
	addr  string
	ready bool
}

func balance(t testing.TB, backends int) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{addr: l.Addr().String(), backends: make([]backend, backends)}
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.pass(conn) // ends with either side
		}
	})
	running.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			b.check()
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	t.Cleanup(func() {
		close(done)
		_ = l.Close()
		running.Wait()
	})
	return b
}

func (b *balancer) set(i int, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends[i] = backend{addr: addr}
}

// check asks each backend whether it is ready.
func (b *balancer) check() {
	for i := range b.backends {
		b.mu.Lock()
		addr := b.backends[i].addr
		b.mu.Unlock()
		a, err := try(http.MethodGet, "http://"+addr+"/manage/health/ready", "")
		b.mu.Lock()
		if b.backends[i].addr == addr {
			b.backends[i].ready = err == nil && a.status == http.StatusOK
		}
		b.mu.Unlock()
	}
}

// awaitReady waits until the balancer knows that these backends are ready.
func (b *balancer) awaitReady(t testing.TB, backends ...int) {
	t.Helper()
	for _, i := range backends {
		eventually(t, "the balancer to know a backend is ready", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.backends[i].ready
		})
	}
}

func (b *balancer) choose() (addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.backends {
		b.turn = (b.turn + 1) % len(b.backends)
		if backend := b.backends[b.turn]; backend.ready {
			return backend.addr
		}
	}
	return ""
}

func (b *balancer) pass(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", b.choose())
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close() // the client has left
	}()
	_, _ = io.Copy(client, server)
}
