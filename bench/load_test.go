//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// startLoad runs a load generator in the test's own process.
func startLoad(t *testing.T) *generator {
	t.Helper()
	ordersIn, ordersOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	answersIn, answersOut := io.Pipe()
	ended := make(chan error, 1)
	fd := int(ordersIn.Fd())
	go func() { ended <- runLoad(fd, answersOut) }()
	t.Cleanup(func() {
		_ = ordersOut.Close()
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("the load generator ended with %v, want the end of its orders", err)
		}
		_ = ordersIn.Close()
	})
	return &generator{orders: ordersOut, answers: json.NewDecoder(answersIn)}
}

// TestSessionsResumeWithTheirCursors has a server that sends two events after the cursor and then hangs up.
func TestSessionsResumeWithTheirCursors(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var cursor int64
		_, _ = fmt.Sscan(r.Header.Get("Last-Event-ID"), &cursor)
		w.Header().Set("Connection", "close")
		w.Header().Set("Transfer-Encoding", "identity")
		_, _ = fmt.Fprintf(w, "id: %d\nevent: insert\ndata: %s\n\n", cursor+1, payload())
		_ = http.NewResponseController(w).Flush()
		_, _ = fmt.Fprintf(w, "id: %d\nevent: insert\ndata: %s\n\n", cursor+2, payload())
	}))
	t.Cleanup(server.Close)
	g := startLoad(t)
	const sessions = 50
	o := order{
		Do: "open", Kind: sse, Address: strings.TrimPrefix(server.URL, "http://"), Path: "/events",
		Sessions: sessions, Consumers: sessions, Consumer: "c", Cursor: 4, Dialing: 8, Within: 10 * time.Second,
	}
	for round := int64(1); round <= 3; round++ {
		o.Resume = round > 1
		if _, err := g.do(o); err != nil {
			t.Fatal(err)
		}
		a, err := g.awaitEach(4+2*round, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if a.TotalEvents != 2*round*sessions || a.Disorder > 0 {
			t.Errorf("round %d: %d events, %d out of order, want %d in order", round, a.TotalEvents, a.Disorder, 2*round*sessions)
		}
		for a.Open > 0 { // the server has hung up, which may not have been noticed yet
			if a, err = g.report(0); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRefusalsAreReported(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too many sessions", http.StatusServiceUnavailable)
	}))
	t.Cleanup(server.Close)
	_, err := startLoad(t).open(order{
		Kind: sse, Address: strings.TrimPrefix(server.URL, "http://"), Path: "/events", Sessions: 3, Consumers: 1,
	})
	if err == nil || !strings.Contains(err.Error(), "503 Service Unavailable: too many sessions") {
		t.Errorf("opening says %v, want the server's status and words", err)
	}
}
