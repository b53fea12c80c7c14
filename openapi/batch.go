package openapi

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/event-piper/event-piper/core"
)

// eventBatch describes the body that appendBatch writes.
type eventBatch struct {
	Events []event `json:"events" doc:"The events in ascending order of their ids; none when there were none within the wait."`
	Cursor int64   `json:"cursor" minimum:"0" maximum:"281474976710655" example:"6" doc:"What to send as after next time. It moves on even when no event was for this consumer."`
	More   bool    `json:"more" example:"false" doc:"Whether there are more events right now."`
}

type event struct {
	ID        int64           `json:"id" minimum:"1" maximum:"281474976710655" example:"6" doc:"The event's position: it never appears after a higher one was delivered."`
	Type      string          `json:"type" minLength:"1" maxLength:"255" example:"insert" doc:"What happened."`
	Timestamp time.Time       `json:"timestamp" example:"2026-03-01T12:00:00.123456Z" doc:"When it happened, in UTC."`
	Payload   json.RawMessage `json:"payload" doc:"Any JSON value, exactly as it was stored: the order of keys and the digits of numbers are unchanged."`
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
		b = appendEvent(b, e)
	}
	b = append(b, `],"cursor":`...)
	b = strconv.AppendInt(b, batch.Cursor, 10)
	b = append(b, `,"more":`...)
	b = strconv.AppendBool(b, batch.More)
	return append(b, '}')
}

// batchSize is about how long the body is, a little more rather than less.
func batchSize(batch *core.Batch) int {
	n := 100
	for _, e := range batch.Events {
		n += len(e.Payload) + len(e.Type) + 120
	}
	return n
}

func appendEvent(b []byte, e *core.Event) []byte {
	b = append(b, `{"id":`...)
	b = strconv.AppendInt(b, e.ID, 10)
	b = append(b, `,"type":`...)
	name, _ := json.Marshal(e.Type) // a string always encodes
	b = append(b, name...)
	b = append(b, `,"timestamp":"`...)
	b = e.Timestamp.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","payload":`...)
	b = append(b, e.Payload...)
	return append(b, '}')
}
