//go:build unix

package blackbox_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// spans is a collector. What it has got is said in lines, one for a span.
type spans struct {
	mu  sync.Mutex
	got []string
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Key") != "secret" {
		http.Error(w, "not an export of traces", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range request.ResourceSpans {
		service := text(of.Resource.Attributes, "service.name")
		for _, scope := range of.ScopeSpans {
			for _, span := range scope.Spans {
				line := fmt.Sprintf("%s %s %s", service, span.Name, strings.TrimPrefix(span.Kind.String(), "SPAN_KIND_"))
				for _, link := range span.Links {
					line += fmt.Sprintf(" -> %s/%s", hex.EncodeToString(link.TraceId), hex.EncodeToString(link.SpanId))
				}
				if len(span.ParentSpanId) > 0 {
					line += " with a parent"
				}
				for _, name := range []string{
					"messaging.system", "messaging.destination.name", "messaging.message.id", "event_piper.event.type",
					"event_piper.consumer", "event_piper.transport",
				} {
					line += " " + text(span.Attributes, name)
				}
				if strings.Contains(span.String(), "private") {
					line += " with the payload"
				}
				s.got = append(s.got, line)
			}
		}
	}
}

func text(attributes []*common.KeyValue, name string) string {
	for _, a := range attributes {
		if a.Key == name {
			return a.Value.GetStringValue()
		}
	}
	return "none"
}

// TestDeliveriesAreTraced: each delivery of an event that was inserted in a sampled trace is a span linked to that, and sent when
// the service stops at the latest.
func TestDeliveriesAreTraced(t *testing.T) {
	t.Parallel()
	collected := &spans{}
	receiver := httptest.NewServer(collected)
	defer receiver.Close()
	dsn := pgtest.New(t)
	db := connect(t, dsn)
	p := start(t, "stream", "DATABASE_URL="+dsn, "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL,
		"OTEL_EXPORTER_OTLP_HEADERS=x-key=secret", "OTEL_SERVICE_NAME=events", "DRAIN_TIME=1s")
	s, err := openAt(p.addr, "/events", "ann", fromNow, "X-Consumer-Topics", "team-7")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	insert := func(traceparent any) int64 {
		return query[int64](t, db, `insert into events (type, subscriber, payload, traceparent)
			values ('order.paid', 'team-7', '"private"', $1) returning id`, traceparent)
	}
	traced := insert(traceparent)
	ids := []int64{traced, insert(nil), insert("not one"), insert(strings.TrimSuffix(traceparent, "1") + "0")}
	s.want(t, ids...)
	url := p.url("/events/poll?wait=0&after=0")
	if got := ask(t, http.MethodGet, url, "bob", "X-Consumer-Topics", "team-7").batch(t).ids(); !slices.Equal(got, ids) {
		t.Errorf("want a poll to answer with %v, got %v", ids, got)
	}
	p.stop(t)

	want := []string{}
	for _, by := range []string{"ann sse", "bob poll"} {
		want = append(want, fmt.Sprintf("events deliver PRODUCER -> 4bf92f3577b34da6a3ce929d0e0e4736/00f067aa0ba902b7 event_piper team-7 %d order.paid %s", traced, by))
	}
	collected.mu.Lock()
	defer collected.mu.Unlock()
	slices.Sort(collected.got)
	if !slices.Equal(collected.got, want) {
		t.Errorf("want the spans\n%s\ngot\n%s", strings.Join(want, "\n"), strings.Join(collected.got, "\n"))
	}
}

// TestTracesMayBeLost without harm to a delivery or to the end: the collector is away.
func TestTracesMayBeLost(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	dsn := pgtest.New(t)
	p := start(t, "poll", "DATABASE_URL="+dsn, "OTEL_EXPORTER_OTLP_ENDPOINT="+gone.URL)
	connect(t, dsn).exec(t, fmt.Sprintf(`insert into events (type, subscriber, payload, traceparent)
		select 'insert', 'toto', '1', '%s' from generate_series(1, 5000)`, traceparent))
	for cursor, n := int64(0), 0; n < 5000; {
		b := ask(t, http.MethodGet, p.url(fmt.Sprintf("/events/poll?wait=20&limit=1000&after=%d", cursor)), "toto").batch(t)
		n, cursor = n+len(b.Events), b.Cursor
	}
	p.stop(t)
	p.awaitLog(t, "traces are lost")

	refused := launch(t, "poll", nil, "DATABASE_URL="+dsn, "OTEL_EXPORTER_OTLP_ENDPOINT="+gone.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	refused.exit(t, 1)
}
