// Package tracing tells an OpenTelemetry collector of deliveries: a span for each event that is handed to a client and came
// with a traceparent, linked to the trace that it names. The payload is no part of it.
//
// Spans wait in a queue of the SDK's, which is bounded and drops what is too much. Nothing here waits for the collector but
// Close.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"github.com/event-piper/event-piper/core"
)

// Deliveries makes the spans. A nil one makes none.
type Deliveries struct {
	provider *trace.TracerProvider
	tracer   api.Tracer
}

// Open returns nil unless the environment names an endpoint. The OpenTelemetry SDK reads its own variables: the endpoint,
// headers, certificates, the sampler, the service's name, and the bounds of the queue.
func Open(ctx context.Context, name, version string, log *slog.Logger) (*Deliveries, error) {
	endpoint := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if endpoint == "" {
		endpoint = os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	if endpoint == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if protocol := os.Getenv(variable); protocol != "" && protocol != "http/protobuf" {
			return nil, errors.New(variable + ": traces are sent by http/protobuf alone, mostly to port 4318")
		}
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	// What comes later wins: the operator's name for the service over ours.
	from, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", name), attribute.String("service.version", version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are lost", "error", err) }))
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(from))
	log.Info("sending a span for each delivery of an event with a traceparent", "endpoint", endpoint)
	return &Deliveries{provider, provider.Tracer("event-piper", api.WithInstrumentationVersion(version))}, nil
}

// closeTimeout bounds the wait for a collector at the end.
const closeTimeout = 5 * time.Second

// Close sends what waits.
func (d *Deliveries) Close() {
	if d == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := d.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

// Func returns what is told of each delivery over a transport, nil if nobody wants to know.
func (d *Deliveries) Func(transport string) func(consumer string, e *core.Event) {
	if d == nil {
		return nil
	}
	return func(consumer string, e *core.Event) { d.deliver(transport, consumer, e) }
}

// Poller returns a poller that tells of what p answers with.
func (d *Deliveries) Poller(p core.Poller) core.Poller {
	if d == nil {
		return p
	}
	return tracedPoller{p, d}
}

type tracedPoller struct {
	core.Poller
	deliveries *Deliveries
}

func (p tracedPoller) Poll(ctx context.Context, poll core.Poll) (core.Batch, error) {
	batch, err := p.Poller.Poll(ctx, poll)
	for _, e := range batch.Events {
		p.deliveries.deliver("poll", poll.Consumer, e)
	}
	return batch, err
}

// deliver makes a span of its own trace, since one event may have thousands of deliveries, and days after its own: it links to
// the event's (OpenTelemetry, semantic conventions for messaging spans). A trace that is not sampled has none.
func (d *Deliveries) deliver(transport, consumer string, e *core.Event) {
	if e.Traceparent == "" {
		return
	}
	of := api.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier(e.Traceparent)))
	if !of.IsSampled() {
		return
	}
	_, span := d.tracer.Start(context.Background(), "deliver", api.WithNewRoot(), api.WithSpanKind(api.SpanKindProducer),
		api.WithLinks(api.Link{SpanContext: of}), api.WithAttributes(
			attribute.String("messaging.system", "event_piper"),
			attribute.String("messaging.operation.name", "deliver"),
			attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.destination.name", e.Consumer),
			attribute.String("messaging.message.id", strconv.FormatInt(e.ID, 10)),
			attribute.String("event_piper.event.type", e.Type),
			attribute.String("event_piper.consumer", consumer),
			attribute.String("event_piper.transport", transport),
			attribute.Bool("event_piper.replay", !e.Live),
		))
	span.End()
}

// carrier is a traceparent as the SDK looks for it.
type carrier string

func (c carrier) Get(key string) string {
	if key == "traceparent" {
		return string(c)
	}
	return ""
}

func (c carrier) Set(string, string) {}
func (c carrier) Keys() []string     { return []string{"traceparent"} }
