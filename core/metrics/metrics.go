// Package metrics reports to Prometheus what an instance does. Every metric has a bounded number of
// series: none is labelled with a consumer, an event's type or an address.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/sse"
)

// Metrics is one instance's registry.
type Metrics struct {
	registry *prometheus.Registry
	latency  prometheus.Histogram
	refusals map[string]prometheus.Counter // by reason, never changed
}

// New returns a registry of the Go runtime, the process, and the program's version.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), latency: newLatency(), refusals: map[string]prometheus.Counter{}}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "event_piper_build_info", Help: "Always 1; the label is the version of the program.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build)
	for _, reason := range refusalReasons {
		m.refusals[reason] = prometheus.NewCounter(prometheus.CounterOpts{
			Name: refusalsName, Help: refusalsHelp, ConstLabels: prometheus.Labels{"reason": reason},
		})
		m.registry.MustRegister(m.refusals[reason])
	}
	return m
}

// Hub adds what a hub does.
func (m *Metrics) Hub(h *core.Hub) { m.registry.MustRegister(hubCollector{h.Stats}) }

// Streams adds what a server of streams does, and the latency that it reports to [Metrics.Observe].
func (m *Metrics) Streams(s *sse.Stats) {
	m.registry.MustRegister(streamCollector{s}, m.latency)
}

// Observe notes the time from a live event's timestamp to its delivery.
func (m *Metrics) Observe(d time.Duration) {
	m.latency.Observe(max(d, 0).Seconds()) // the writer's clock may be ahead of ours
}

// Refused counts a request that was refused. A reason that is not known counts as "other".
func (m *Metrics) Refused(reason string) {
	counter, ok := m.refusals[reason]
	if !ok {
		counter = m.refusals["other"]
	}
	counter.Inc()
}

// Handler answers GET /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, EnableOpenMetrics: true})
}
