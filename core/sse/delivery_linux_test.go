package sse

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
)

// BenchmarkDelivery takes an event from the store to every session of its consumer. What it allocates must not
// grow with the sessions.
func BenchmarkDelivery(b *testing.B) {
	for _, sessions := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(sessions, "_sessions"), func(b *testing.B) {
			var written atomic.Int64
			arrived := make(chan struct{}, 1)
			s := newService(b, ways[0], func(c *setup) {
				c.limits = core.Limits{Sessions: sessions, SessionsPerConsumer: sessions, Pagers: 1, TailBytes: 1 << 20}
				c.observe = func(time.Duration) {
					if written.Add(1)%int64(sessions) == 0 {
						arrived <- struct{}{}
					}
				}
			})
			for range sessions {
				listen(b, s)
			}
			b.ReportAllocs()
			for b.Loop() {
				s.store.Insert("toto", "insert", `{"foo":"bar"}`)
				<-arrived
			}
		})
	}
}

// listen opens a stream, and reads and forgets what comes without allocating anything for it.
func listen(b *testing.B, s *service) {
	b.Helper()
	conn, err := net.Dial("tcp", s.http.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: bench\r\nX-Consumer-Id: toto\r\n\r\n"); err != nil {
		b.Fatal(err)
	}
	buffer := make([]byte, 1024)
	for head := ""; !strings.Contains(head, "retry: "); {
		n, err := conn.Read(buffer)
		if err != nil {
			b.Fatal(err)
		}
		head += string(buffer[:n])
	}
	go func() {
		for err := error(nil); err == nil; {
			_, err = conn.Read(buffer)
		}
	}()
}
