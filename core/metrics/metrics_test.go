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

// noStore is a store that cannot be reached.
type noStore struct{ core.Store }

func (noStore) Follow(context.Context) (core.Follower, error) { return nil, errors.New("not reachable") }

// full returns the registry of a stream, which has every metric there is.
func full(t *testing.T) (*metrics.Metrics, *core.Hub, *sse.Stats) {
	t.Helper()
	hub := core.NewHub(noStore{}, core.Limits{Sessions: 2, SessionsPerConsumer: 1}, slog.New(slog.DiscardHandler))
	streams := &sse.Stats{}
	m := metrics.New("v1.2.3")
	m.Hub(hub)
	m.Streams(streams)
	return m, hub, streams
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
	m, _, _ := full(t)
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

func TestScrapeCountsSessionsAndRefusals(t *testing.T) {
	m, hub, streams := full(t)
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
	m, _, _ := full(t)
	problems, err := promlint.New(strings.NewReader(scrape(t, m))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
