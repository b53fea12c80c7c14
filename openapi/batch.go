package openapi

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/negotiation"

	"github.com/event-piper/event-piper/core"
)

// eventBatch describes the body that appendBatch writes.
type eventBatch struct {
	Events []event `json:"events" doc:"The events in ascending order of their ids; none when there were none within the wait."`
	Cursor int64   `json:"cursor" minimum:"0" maximum:"281474976710655" example:"6" doc:"What to send as after next time. It moves on even when no event was for this consumer."`
	More   bool    `json:"more" example:"false" doc:"Whether there are more events right now."`
}

type event struct {
	ID          int64           `json:"id" minimum:"1" maximum:"281474976710655" example:"6" doc:"The event's position: it never appears after a higher one was delivered."`
	Type        string          `json:"type" minLength:"1" maxLength:"255" example:"insert" doc:"What happened."`
	Timestamp   time.Time       `json:"timestamp" example:"2026-03-01T12:00:00.123456Z" doc:"When it happened, in UTC."`
	Subscriber  string          `json:"subscriber" minLength:"1" maxLength:"255" example:"toto" doc:"The address that it was inserted for: the consumer's own or a topic."`
	Amends      int64           `json:"amends,omitempty" minimum:"1" maximum:"281474976710655" doc:"The earlier event that it corrects, if it does."`
	Traceparent string          `json:"traceparent,omitempty" doc:"The trace that it was inserted in, in the form of W3C Trace Context."`
	Payload     json.RawMessage `json:"payload" doc:"Any JSON value, exactly as it was stored: the order of keys and the digits of numbers are unchanged."`
}

// TransformSchema implements huma.SchemaTransformer. The extension keeps a Go client from reading numbers as
// floats.
func (event) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	p := s.Properties["payload"]
	p.Extensions = map[string]any{"x-go-type": "json.RawMessage"}
	p.Examples = []any{map[string]any{"foo": "bar"}}
	return s
}

// appendBatch appends a batch as JSON. Payloads go through as they are: encoding/json would read each again,
// and refuse for good a page with an event that is nested more deeply than it likes.
func appendBatch(b []byte, batch core.Batch) []byte {
	b = append(b, `{"events":[`...)
	for i, e := range batch.Events {
		if i > 0 {
			b = append(b, ',')
		}
		b = core.AppendEvent(b, e)
	}
	b = append(b, `],"cursor":`...)
	b = strconv.AppendInt(b, batch.Cursor, 10)
	b = append(b, `,"more":`...)
	b = strconv.AppendBool(b, batch.More)
	return append(b, '}')
}

// batchSize is about how long the body is, a little more rather than less.
func batchSize(batch *core.Batch, source string) int {
	n := 100
	for _, e := range batch.Events {
		n += len(e.Payload) + len(e.Type) + len(e.Consumer) + len(source) + 240
	}
	return n
}

// cloudEvents is the media type of a batch of CloudEvents (CloudEvents 1.0.2, JSON Event Format, section 4).
const cloudEvents = "application/cloudevents-batch+json"

// What a batch of CloudEvents has no place for.
const (
	cursorHeader = "X-Cursor"
	moreHeader   = "X-More"
)

// takesCloudEvents reports whether a client would rather have CloudEvents (RFC 9110, section 12.5.1). The case of a media
// type does not count (section 8.3.1).
func takesCloudEvents(accept []string) bool {
	return negotiation.SelectQValue(strings.ToLower(strings.Join(accept, ",")), []string{"application/json", cloudEvents}) == cloudEvents
}

// appendCloudEvents appends the events of a batch as CloudEvents.
func appendCloudEvents(b []byte, batch core.Batch, source string) []byte {
	b = append(b, '[')
	for i, e := range batch.Events {
		if i > 0 {
			b = append(b, ',')
		}
		b = core.AppendCloudEvent(b, e, source)
	}
	return append(b, ']')
}
