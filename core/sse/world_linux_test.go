package sse

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestStreamsThatComeAndGo has 40 clients open 2,000 streams and leave them at random, each where it was,
// while events are pushed: in the end each has received all of its consumer's, once and in order. Nothing
// is left behind, no descriptor and no goroutine.
func TestStreamsThatComeAndGo(t *testing.T) {
	for _, w := range ways {
		t.Run("once "+w.name, func(t *testing.T) { newService(t, w).open(t, "toto") }) // what stays open for good does so now
	}
	files, goroutines := descriptors(t), runtime.NumGoroutine()
	for _, w := range ways[:2] {
		t.Run(w.name, func(t *testing.T) { comeAndGo(t, w) })
	}
	eventually(t, "all descriptors to be given back", func() bool { return descriptors(t) <= files })
	eventually(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

func comeAndGo(t *testing.T, w way) {
	const clients, streams, consumers = 40, 50, 7
	s := newService(t, w, func(c *setup) { c.Heartbeat, c.limits.TailBytes = 20*time.Millisecond, 64<<10 })
	stop := make(chan struct{})
	var writer, readers sync.WaitGroup
	insert := func() {
		s.store.Insert(fmt.Sprint("c", rand.N(consumers)), "insert", `"`+strings.Repeat("x", rand.N(2000))+`"`)
	}
	writer.Go(func() {
		for pause := time.NewTicker(200 * time.Microsecond); ; <-pause.C {
			select {
			case <-stop:
				return
			default:
				insert()
			}
		}
	})
	received := make([][]int64, clients)
	for i := range clients {
		readers.Go(func() {
			for range streams {
				if err := visit(s, fmt.Sprint("c", i%consumers), &received[i], rand.N(20), 0); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	writer.Wait()
	for i := range clients {
		consumer := fmt.Sprint("c", i%consumers)
		var want []int64
		for _, e := range s.store.Visible(consumer) {
			want = append(want, e.ID)
		}
		readers.Go(func() {
			if err := visit(s, consumer, &received[i], len(want)+1, want[len(want)-1]); err != nil {
				t.Errorf("client %d at the end: %v", i, err)
			}
			if !slices.Equal(received[i], want) {
				t.Errorf("client %d received %d events, want the %d of %s in order", i, len(received[i]), len(want), consumer)
			}
		})
	}
	readers.Wait()
	for range 100 {
		s.open(t, "c0") // for the cleanup to close
	}
}

// TestCloseWhileStreamsStart closes servers, some after a drain, while clients are coming in.
func TestCloseWhileStreamsStart(t *testing.T) {
	t.Run("once", func(t *testing.T) { newService(t, ways[0]).open(t, "toto") }) // what stays open for good does so now
	files := descriptors(t)
	for i := range 20 {
		t.Run(fmt.Sprint(i, " arrived"), func(t *testing.T) {
			s := newService(t, ways[0])
			var clients sync.WaitGroup
			arrived := make(chan struct{}, 20)
			for range cap(arrived) {
				clients.Go(func() {
					var received []int64
					_ = visit(s, "toto", &received, 0, 0) // refused, closed or left: all may be
					arrived <- struct{}{}
					_ = visit(s, "toto", &received, 1, 0)
				})
			}
			for range i {
				await(t, arrived, "clients to come in")
			}
			if i%2 == 0 {
				s.Drain(t.Context())
			}
			s.Close()
			if n := s.hub.Sessions(); n != 0 {
				t.Errorf("%d sessions are open after Close, want none", n)
			}
			clients.Wait()
		})
	}
	eventually(t, "all descriptors to be given back", func() bool { return descriptors(t) <= files })
}

// visit opens one stream after what was received, receives at most so many frames or through an id, and
// leaves in the midst of things.
func visit(s *service, consumer string, received *[]int64, frames int, through int64) error {
	last := int64(0)
	if n := len(*received); n > 0 {
		last = (*received)[n-1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("X-Consumer-Id", consumer)
	r.Header.Set("Last-Event-ID", strconv.FormatInt(last, 10))
	resp, err := s.http.Client().Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	var id int64
	heartbeat := false
	for frames > 0 && (through == 0 || last < through) {
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("after %d: %w", last, err)
		}
		if digits, ok := strings.CutPrefix(line, "id: "); ok {
			if id, err = strconv.ParseInt(strings.TrimSpace(digits), 10, 64); err != nil {
				return err
			}
		}
		heartbeat = heartbeat || line == "event: heartbeat\n"
		if line != "\n" {
			continue
		}
		if last = max(last, id); !heartbeat {
			*received = append(*received, last)
			frames--
		}
		id, heartbeat = 0, false
	}
	return nil
}

// descriptors counts the open files of the process.
func descriptors(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatalf("count descriptors: %v", err)
	}
	return len(files) - 1 // without the directory itself
}
