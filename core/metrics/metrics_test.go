package metrics_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/metrics"
	"github.com/event-piper/event-piper/core/sse"
)

// stuckStore is a store with a transaction in flight that holds two ids back, and nothing new to read.
type stuckStore struct {
	core.Store
	waiting chan struct{} // closed when the follower waits, after its only read
}

func (s stuckStore) Follow(context.Context) (core.Follower, error) { return s, nil }
func (s stuckStore) Look(context.Context, []core.Mark) (core.Standing, error) {
	return core.Standing{Newest: core.Mark{ID: 5}}, nil
}
func (s stuckStore) FillPayloads(context.Context, []*core.Event) (int, error) {
	return 0, nil
}
func (s stuckStore) Close() {}

func (s stuckStore) Read(context.Context, int64, []string) (core.Read, error) {
	return core.Read{Position: 5, Sequence: 7, Watermark: 5, Writers: 1, OldestWriter: 4711}, nil
}

func (s stuckStore) Wait(ctx, _ context.Context) error {
	close(s.waiting)
	<-ctx.Done()
	return ctx.Err()
}

// full returns the metrics of a stream, which are all there are, over a hub that does not run.
func full(t *testing.T) (*metrics.Metrics, *core.Hub, stuckStore, *sse.Stats) {
	t.Helper()
	store := stuckStore{waiting: make(chan struct{})}
	hub := core.NewHub(store, core.Limits{Sessions: 2, SessionsPerConsumer: 1}, slog.New(slog.DiscardHandler))
	streams := &sse.Stats{}
	m := metrics.New("v1.2.3")
	m.Hub(hub)
	m.Streams(streams)
	return m, hub, store, streams
}

// run runs a hub until the test ends, and returns when it has read.
func run(t *testing.T, hub *core.Hub, store stuckStore) {
	t.Helper()
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- hub.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run the hub: %v", err)
		}
	})
	<-store.waiting
}

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET /metrics: want 200, got %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// wantLines checks that a scrape has lines, each a series with its value.
func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			name, _, _ := strings.Cut(strings.Fields(line)[0], "{")
			var got []string
			for have := range strings.Lines(text) {
				if strings.HasPrefix(have, name) {
					got = append(got, strings.TrimSpace(have))
				}
			}
			t.Errorf("want %q, got %q", line, got)
		}
	}
}

func TestScrapeBeforeAnythingHappened(t *testing.T) {
	m, _, _, _ := full(t)
	wantLines(t, scrape(t, m),
		`event_piper_build_info{version="v1.2.3"} 1`,
		`event_piper_following 0`,
		`event_piper_last_read_timestamp_seconds 0`,
		`event_piper_held_back_seconds 0`,
		`event_piper_reconnects_total 0`,
		`event_piper_sessions_limit 2`,
		`event_piper_refusals_total{reason="expired"} 0`,
		`event_piper_resets_total{reason="pruned"} 0`,
		`event_piper_events_delivered_total{by="poll"} 0`,
		`event_piper_delivery_latency_seconds_count 0`,
	)
}

func TestScrapeOfAHubHeldBack(t *testing.T) {
	m, hub, store, _ := full(t)
	run(t, hub, store)
	text := scrape(t, m)
	wantLines(t, text,
		`event_piper_following 1`,
		`event_piper_reconnects_total 0`,
		`event_piper_reads_total 1`,
		`event_piper_position 5`,
		`event_piper_watermark 5`,
		`event_piper_writers 1`,
		`event_piper_events_held_back 2`,
		`event_piper_held_back_seconds 0`,
	)
	if strings.Contains(text, "event_piper_last_read_timestamp_seconds 0\n") {
		t.Error("want the time of the read, got 0")
	}
}

func TestScrapeCountsSessionsAndRefusals(t *testing.T) {
	m, hub, store, streams := full(t)
	run(t, hub, store)
	open := func(consumer string, want error) {
		t.Helper()
		if _, err := hub.Open(consumer, core.FromNow, nil, func() {}); !errors.Is(err, want) {
			t.Fatalf("open a session of %s: want %v, got %v", consumer, want, err)
		}
	}
	open("toto", nil)
	open("toto", core.ErrTooManySessionsOfConsumer)
	open("titi", nil)
	open("tata", core.ErrTooManySessions)
	m.Refused("expired")
	m.Refused("rate")
	m.Refused("something that no one has heard of")
	streams.Events.Add(3)
	streams.Bytes.Add(99)
	m.Observe(3 * time.Millisecond)
	m.Observe(-time.Hour)

	wantLines(t, scrape(t, m),
		`event_piper_sessions 2`,
		`event_piper_refusals_total{reason="consumer_sessions"} 1`,
		`event_piper_refusals_total{reason="sessions"} 1`,
		`event_piper_refusals_total{reason="expired"} 1`,
		`event_piper_refusals_total{reason="rate"} 1`,
		`event_piper_refusals_total{reason="other"} 1`,
		`event_piper_events_delivered_total{by="stream"} 3`,
		`event_piper_sent_bytes_total{by="stream"} 99`,
		`event_piper_delivery_latency_seconds_bucket{le="0.001"} 1`,
		`event_piper_delivery_latency_seconds_bucket{le="0.005"} 2`,
		`event_piper_delivery_latency_seconds_sum 0.003`,
	)
}

// TestLint follows https://prometheus.io/docs/practices/naming.
func TestLint(t *testing.T) {
	m, _, _, _ := full(t)
	problems, err := promlint.New(strings.NewReader(scrape(t, m))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
