package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/sse"
)

const (
	refusalsName = "event_piper_refusals_total"
	refusalsHelp = "Requests refused, by reason: the consumer is not known (as core/auth names it), a limit is reached (sessions, consumer_sessions, rate), the service is stopping (draining), or another one."
)

// refusalReasons are those that [Metrics.Refused] tells apart: the reasons of an auth.Error, "rate" for
// too many requests of a consumer, "connections" for too many of these, and all others together.
var refusalReasons = slices.Concat(auth.Reasons, []string{"rate", "connections", "other"})

// reading is one series whose value is taken from S, a state of one moment.
type reading[S any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(S) float64
}

func gauge[S any](name, help string, value func(S) float64) reading[S] {
	return reading[S]{prometheus.NewDesc("event_piper_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

func counter[S any](name, help string, value func(S) int64, labels ...string) reading[S] {
	constant := prometheus.Labels{}
	for i := 0; i < len(labels); i += 2 {
		constant[labels[i]] = labels[i+1]
	}
	desc := prometheus.NewDesc("event_piper_"+name, help, nil, constant)
	return reading[S]{desc, prometheus.CounterValue, func(s S) float64 { return float64(value(s)) }}
}

func describe[S any](readings []reading[S], ch chan<- *prometheus.Desc) {
	for _, r := range readings {
		ch <- r.desc
	}
}

func collect[S any](readings []reading[S], state S, ch chan<- prometheus.Metric) {
	for _, r := range readings {
		ch <- prometheus.MustNewConstMetric(r.desc, r.kind, r.value(state))
	}
}

const (
	deliveredHelp = "Events delivered, by streams or by polls; one that several sessions receive counts for each."
	bytesHelp     = "Bytes sent: all that streams carry, and the payloads that polls are answered with."
	resetsHelp    = "Cursors that could not be continued: ahead of the newest position, or pruned by retention."
)

var hubReadings = []reading[core.Stats]{
	gauge("sessions", "Open sessions, streams and polls together.",
		func(s core.Stats) float64 { return float64(s.Sessions) }),
	gauge("sessions_limit", "Sessions that this instance may hold (MAX_SESSIONS).",
		func(s core.Stats) float64 { return float64(s.SessionLimit) }),
	gauge("polls_waiting", "Polls that wait for an event.",
		func(s core.Stats) float64 { return float64(s.Polls) }),

	gauge("following", "1 while this instance follows the database, 0 while it is connecting again.",
		func(s core.Stats) float64 { return truth(s.Following) }),
	gauge("last_read_timestamp_seconds", "When the live end was last read successfully, in Unix time; 0 before the first read.",
		func(s core.Stats) float64 { return unix(s.LastRead) }),
	gauge("position", "Highest event id that this instance has read.",
		func(s core.Stats) float64 { return float64(s.Position) }),
	gauge("watermark", "Highest id at or below which no event can appear any more, at the last read.",
		func(s core.Stats) float64 { return float64(s.Watermark) }),
	gauge("writers", "Transactions in flight that have inserted events, at the last read.",
		func(s core.Stats) float64 { return float64(s.Writers) }),
	gauge("events_held_back", "Ids above the watermark, so at most as many events wait for an open transaction to end.",
		func(s core.Stats) float64 { return float64(max(0, s.Sequence-s.Watermark)) }),
	gauge("held_back_seconds", "How long the same open transaction has held events back, at the last read; 0 if none does.",
		heldBackSeconds),

	counter("reads_total", "Reads of the live end.",
		func(s core.Stats) int64 { return s.Reads }),
	counter("events_read_total", "Events that reads of the live end brought.",
		func(s core.Stats) int64 { return s.EventsRead }),
	counter("wakes_total", "Times that a session was woken because its consumer had new events.",
		func(s core.Stats) int64 { return s.Wakes }),
	counter("reconnects_total", "Times that following the database began again after its first start.",
		func(s core.Stats) int64 { return max(0, s.Connections-1) }),
	gauge("tail_bytes", "Estimated memory that the recent events take (bounded by TAIL_BYTES).",
		func(s core.Stats) float64 { return float64(s.TailBytes) }),

	counter("replays_total", "Times that a session began to read history instead of recent events.",
		func(s core.Stats) int64 { return s.Replays }),
	counter("replay_pages_total", "Pages of history that were read.",
		func(s core.Stats) int64 { return s.Pages }),
	counter("replay_events_total", "Events in the pages of history that were read.",
		func(s core.Stats) int64 { return s.PageEvents }),
	counter("replay_failures_total", "Reads of history that failed and were tried again.",
		func(s core.Stats) int64 { return s.PageFailures }),
	gauge("replay_sessions_waiting", "Sessions that wait for a connection to read their next page of history.",
		func(s core.Stats) float64 { return float64(s.PagesWaiting) }),
	counter("resets_total", resetsHelp,
		func(s core.Stats) int64 { return s.ResetsAhead }, "reason", "ahead"),
	counter("resets_total", resetsHelp,
		func(s core.Stats) int64 { return s.ResetsPruned }, "reason", "pruned"),
	counter("resets_total", resetsHelp,
		func(s core.Stats) int64 { return s.ResetsOversized }, "reason", "oversized"),
	gauge("buffer_bytes", "Bytes that were read and wait for clients.",
		func(s core.Stats) float64 { return float64(s.BufferBytes) }),
	counter("buffer_full_total", "Polls and streams that ended because too much waited for clients.",
		func(s core.Stats) int64 { return s.Overfull }),

	counter("events_delivered_total", deliveredHelp,
		func(s core.Stats) int64 { return s.PollEvents }, "by", "poll"),
	counter("sent_bytes_total", bytesHelp,
		func(s core.Stats) int64 { return s.PollBytes }, "by", "poll"),
	counter("refusals_total", refusalsHelp,
		func(s core.Stats) int64 { return s.RefusedSessions }, "reason", "sessions"),
	counter("refusals_total", refusalsHelp,
		func(s core.Stats) int64 { return s.RefusedSessionsOfConsumer }, "reason", "consumer_sessions"),
}

// heldBackSeconds does not grow while the database cannot be asked: the transaction may have ended.
func heldBackSeconds(s core.Stats) float64 {
	if s.HeldBack.IsZero() {
		return 0
	}
	return s.LastRead.Sub(s.HeldBack).Seconds()
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// hubCollector takes all of a hub's readings from one moment.
type hubCollector struct{ stats func() core.Stats }

func (c hubCollector) Describe(ch chan<- *prometheus.Desc) { describe(hubReadings, ch) }
func (c hubCollector) Collect(ch chan<- prometheus.Metric) { collect(hubReadings, c.stats(), ch) }

var streamReadings = []reading[*sse.Stats]{
	counter("events_delivered_total", deliveredHelp,
		func(s *sse.Stats) int64 { return s.Events.Load() }, "by", "stream"),
	counter("sent_bytes_total", bytesHelp,
		func(s *sse.Stats) int64 { return s.Bytes.Load() }, "by", "stream"),
	counter("streams_total", "Streams that have begun.",
		func(s *sse.Stats) int64 { return s.Streams.Load() }),
	counter("stream_heartbeats_total", "Heartbeats sent to silent streams.",
		func(s *sse.Stats) int64 { return s.Heartbeats.Load() }),
	counter("streams_stalled_total", "Streams ended because their client took nothing for WRITE_TIMEOUT.",
		func(s *sse.Stats) int64 { return s.Stalled.Load() }),
	counter("refusals_total", refusalsHelp,
		func(s *sse.Stats) int64 { return s.Draining.Load() }, "reason", "draining"),
}

type streamCollector struct{ stats *sse.Stats }

func (c streamCollector) Describe(ch chan<- *prometheus.Desc) { describe(streamReadings, ch) }
func (c streamCollector) Collect(ch chan<- prometheus.Metric) { collect(streamReadings, c.stats, ch) }

// newLatency has buckets from a millisecond, which a quiet instance takes, to where clients complain.
func newLatency() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "event_piper_delivery_latency_seconds",
		Help:    "Time from a live event's timestamp, which its writer sets, to its delivery to a stream; one event of each write is measured.",
		Buckets: []float64{.001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
}
