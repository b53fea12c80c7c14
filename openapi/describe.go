package openapi

import (
	"cmp"
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/problem"
)

const overview = `Events out of PostgreSQL, pushed over HTTP: as Server-Sent Events or by long-polling.

An event's id is a position. A consumer keeps the id of the last event it has seen, its *cursor*, and asks for what comes after it, from any instance and in either way. Events come in ascending order of their ids, and an id never appears after a higher one was delivered.

Errors are problems (RFC 9457). Besides those listed with each operation, any path may answer 404 or 405, and a request with a body 408 or 413. Each answer carries an X-Request-Id to be quoted when asking about it.`

// describe completes what Huma knows of the operations it serves with everything else that clients need.
func describe(o *huma.OpenAPI, streams bool) *huma.OpenAPI {
	o.Info.Description = overview
	o.Info.Contact = &huma.Contact{Name: "Event Piper", URL: "https://github.com/event-piper/event-piper"}
	o.Info.License = &huma.License{Name: "Apache 2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0.html"}
	o.Servers = []*huma.Server{{URL: ".", Description: "Where this document comes from."}}
	o.Tags = []*huma.Tag{
		{Name: "events", Description: "Events of the consumer who asks."},
		{Name: "health", Description: "Whether events are being delivered."},
	}
	o.Components.SecuritySchemes = securitySchemes
	// Some generators make positional arguments of parameters, in this order.
	order := []string{"after", "wait", "limit", "types", "topics", "Prefer"}
	slices.SortStableFunc(o.Paths[pollPath].Get.Parameters, func(a, b *huma.Param) int {
		return cmp.Compare(uint(slices.Index(order, a.Name)), uint(slices.Index(order, b.Name))) // -1 becomes last
	})
	if streams {
		o.AddOperation(streamOperation())
	}
	for _, op := range healthOperations(o.Components.Schemas) {
		o.AddOperation(op)
	}
	for _, s := range o.Components.Schemas.Map() {
		s.AdditionalProperties = nil // members may be added, which clients should ignore
	}
	return o
}

// securitySchemes is documentation: the service is set to trust a gateway or to check tokens itself.
//
// A cookie that carries the token is not described: some generators of clients fail at one.
var securitySchemes = map[string]*huma.SecurityScheme{
	"consumer": {
		Type: "apiKey", In: "header", Name: "X-Consumer-Id",
		Description: "The consumer, set by the API gateway in front (AUTH=gateway).",
	},
	"token": {
		Type: "http", Scheme: "bearer", BearerFormat: "JWT",
		Description: "A token that the service checks itself (AUTH=jwt). It may come in a cookie, too, whose name is the setting JWT_COOKIE.",
	},
	"tokenInURL": {
		Type: "apiKey", In: "query", Name: "access_token",
		Description: "The same token for clients that cannot set headers (RFC 6750).",
	},
}

// security has the header first, which pages show first, too: they sort the names.
var security = []map[string][]string{{"consumer": {}}, {"token": {}}, {"tokenInURL": {}}}

func pollOperation(schemas huma.Registry) huma.Operation {
	responses := problems(400, 401, 403, 410, 414, 422, 429, 500, 503)
	responses["200"] = &huma.Response{
		Description: "Events, or none after the wait.",
		Headers: map[string]*huma.Header{
			"Cache-Control":      header("Always no-store.", "no-store"),
			cursorHeader:         header("The cursor, of a batch of CloudEvents.", "6"),
			moreHeader:           header("Whether there are more events right now, of a batch of CloudEvents.", "false"),
			"Preference-Applied": header("The preference that was followed, if there was one.", "wait=10"),
			"X-Request-Id":       requestID,
		},
		Content: map[string]*huma.MediaType{"application/json": {
			Schema: schemas.Schema(reflect.TypeFor[eventBatch](), true, ""),
			Examples: map[string]*huma.Example{
				"events": {Summary: "An event", Value: map[string]any{
					"events": []any{map[string]any{
						"id": 6, "type": "insert", "timestamp": "2026-03-01T12:00:00.123456Z", "subscriber": "toto", "payload": map[string]any{"foo": "bar"},
					}},
					"cursor": 6, "more": false,
				}},
				"none": {Summary: "Nothing happened within the wait", Value: map[string]any{
					"events": []any{}, "cursor": 6, "more": false,
				}},
			},
		}},
	}
	// CloudEvents are told of in words: of two JSON types, generators of clients ask for the first or mix their schemas.
	return huma.Operation{
		Method: http.MethodGet, Path: pollPath,
		OperationID: "pollEvents", Tags: []string{"events"},
		Summary: "Wait for events",
		Description: "Answers as soon as there is at least one event after the cursor, else after the wait with an empty list. " +
			"Send the answer's cursor as after next time, at once if there is more.\n\n" +
			"A request whose Accept prefers " + cloudEvents + " gets an array of CloudEvents 1.0, and the cursor and more in the headers " +
			cursorHeader + " and " + moreHeader + ".",
		Security: security,
		Parameters: []*huma.Param{
			afterParam, typesParam, topicsParam, preferParam,
		},
		Responses:   responses,
		Middlewares: huma.Middlewares{noStore},
	}
}

func streamOperation() *huma.Operation {
	responses := problems(400, 401, 403, 414, 422, 429, 500, 503)
	responses["200"] = &huma.Response{
		Description: "A stream that does not end by itself.",
		Headers: map[string]*huma.Header{
			"Cache-Control":     header("Always no-cache.", "no-cache"),
			"X-Accel-Buffering": header("Keeps nginx from holding events back.", "no"),
			"X-Request-Id":      requestID,
		},
		Content: map[string]*huma.MediaType{"text/event-stream": {
			Schema: &huma.Schema{Type: huma.TypeString, Description: "Server-Sent Events (WHATWG HTML, section 9.2)."},
			Examples: map[string]*huma.Example{
				"event":     {Summary: "An event: its type, and its payload as compact JSON", Value: "id: 6\nevent: insert\ndata: {\"foo\":\"bar\"}\n\n"},
				"large":     {Summary: "An event of a write of more than 1,200 bytes: its id comes last", Value: "event: insert\ndata: {\"foo\":\"bar\"}\nid: 6\n\n"},
				"first":     {Summary: "The first frame: where the stream starts, and how many milliseconds to wait before reconnecting", Value: "id: 41\nevent: heartbeat\ndata: thump\nretry: 1834\n\n"},
				"heartbeat": {Summary: "Nothing happened for a while; everything up to the id has been sent", Value: "id: 57\nevent: heartbeat\ndata: thump\n\n"},
				"reset":     {Summary: "The cursor was not continued: it is ahead of the newest event, or events after it were pruned", Value: "id: 40\nevent: reset\ndata: {\"reason\":\"pruned\",\"oldest\":40,\"newest\":60}\n\n"},
			},
		}},
	}
	return &huma.Operation{
		Method: http.MethodGet, Path: "/events",
		OperationID: "streamEvents", Tags: []string{"events"},
		Summary: "Stream events",
		Description: "Sends the events after the cursor, then each new one as it is committed. The first frame is a heartbeat that tells where the stream " +
			"starts and how long to wait before reconnecting. Later heartbeats break silence, and say by their id how far the stream has come.\n\n" +
			"A cursor that cannot be continued is answered with a reset frame. The stream goes on from its id: from oldest if events were pruned, " +
			"and from newest if the cursor is ahead.\n\n" +
			"A request whose Accept names text/event-stream, and which cannot be served now, gets 200, a heartbeat with a longer retry, and the end, " +
			"because a browser's EventSource gives up at any other status. Others get 429 or 503.\n\n" +
			"A client of Server-Sent Events that reconnects sends its cursor in the header Last-Event-ID, which wins. lastEventId and last_event_id, " +
			"which polyfills send, are taken like after.\n\n" +
			"A page such as this one shows a stream only when it has ended. Use curl: `curl -N localhost:4000/events -H 'X-Consumer-Id: toto'`.",
		Security: security,
		// One parameter stands for all names of the cursor: to the generators of clients some of them are the same name.
		Parameters: []*huma.Param{afterParam, typesParam, topicsParam, formatParam, viewParam},
		Responses:  responses,
	}
}

// afterParam describes a cursor. Larger integers than any cursor are taken too, as being ahead.
var afterParam = &huma.Param{
	Name: "after", In: "query", Example: 0,
	Description: "The cursor: the id of the last event seen. 0 is the start; without it, only events committed from now on are sent.",
	Schema:      &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: new(float64)},
}

var typesParam = &huma.Param{
	Name: "types", In: "query", // an example would be what a page asks for at first, in vain
	Description: "Only events of these types, such as order.created. The parameter may be repeated, and each may list several, separated by commas.",
	Explode:     ptr(true),
	Schema: &huma.Schema{
		Type: huma.TypeArray, MaxItems: ptr(core.MaxTypes),
		Items: &huma.Schema{
			Type: huma.TypeString, MinLength: ptr(1), MaxLength: ptr(core.MaxNameLength),
			Pattern: `^[^,\x00-\x1f\x7f-\x9f]+$`, // no control characters, and the comma separates
		},
	},
}

var topicsParam = &huma.Param{
	Name: "topics", In: "query",
	Description: "Which topics to follow besides the own address; each must be granted. Without the parameter all that are granted by name are followed, " +
		"with an empty one none. It may be repeated, and each may list several, separated by commas. A comma, a percent sign or a space at the end of a name is " +
		"percent-encoded once more, as in the header X-Consumer-Topics.",
	Explode: ptr(true), AllowEmptyValue: true,
	Schema: &huma.Schema{
		Type: huma.TypeArray, MaxItems: ptr(core.MaxGrants),
		Items: &huma.Schema{Type: huma.TypeString, MaxLength: ptr(3 * 4 * core.MaxNameLength), Pattern: `^[^,\x00-\x1f\x7f-\x9f]*$`},
	},
}

var formatParam = &huma.Param{
	Name: "format", In: "query",
	Description: "The form of the data: payload is the payload alone, event the object that polls answer with, and cloudevents a CloudEvent 1.0.",
	Schema:      &huma.Schema{Type: huma.TypeString, Enum: []any{"payload", "event", "cloudevents"}, Default: "payload"},
}

var viewParam = &huma.Param{
	Name: "view", In: "query",
	Description: "current leaves out of history the events that a later one amends.",
	Schema:      &huma.Schema{Type: huma.TypeString, Enum: []any{"all", "current"}, Default: "all"},
}

var preferParam = &huma.Param{
	Name: "Prefer", In: "header",
	Description: "A preference for how many seconds to wait (RFC 7240), such as wait=10, if the parameter wait is not given.",
	Schema:      &huma.Schema{Type: huma.TypeString},
}

// problems describes the answers of these statuses.
func problems(statuses ...int) map[string]*huma.Response {
	responses := map[string]*huma.Response{}
	for _, status := range statuses {
		d := problemDocs[status]
		example := map[string]any{"title": http.StatusText(status), "status": status}
		for k, v := range d.example {
			example[k] = v
		}
		r := &huma.Response{Description: d.description, Content: map[string]*huma.MediaType{
			problem.ContentType: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}, Example: example},
		}}
		switch status {
		case http.StatusUnauthorized:
			r.Headers = map[string]*huma.Header{"WWW-Authenticate": header("How to authenticate (RFC 9110, section 11.6.1).", "Bearer")}
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			r.Headers = map[string]*huma.Header{"Retry-After": {
				Description: "How many seconds to wait.", Example: 3,
				Schema: &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: new(float64)},
			}}
		}
		responses[strconv.Itoa(status)] = r
	}
	return responses
}

var problemDocs = map[int]struct {
	description string
	example     map[string]any
}{
	400: {"The cursor, the types, the topics or who is asking cannot be understood.", map[string]any{"detail": "X-Consumer-Id is given more than once, with different values"}},
	401: {"Who is asking is not known.", map[string]any{"detail": "X-Consumer-Id is missing"}},
	403: {"A topic is not granted, or X-Consumer-Id names another consumer than the token.", map[string]any{"detail": "X-Consumer-Id names another consumer than the token"}},
	410: {"The cursor cannot be continued: events after it were pruned, or it is ahead of the newest event.", map[string]any{
		"detail": problem.Of(&core.ResetError{Reason: core.Pruned}).Detail, "reason": "pruned", "oldest": 40, "newest": 60,
	}},
	414: {"The URL is too long.", map[string]any{"detail": "a URL takes at most 8192 bytes"}},
	422: {"A parameter is unknown or wrong.", map[string]any{
		"detail": "validation failed",
		"errors": []any{map[string]any{"message": "expected number <= 300", "location": "query.wait", "value": 301}},
	}},
	429: {"This consumer has too many requests, or sessions, at a time.", map[string]any{"detail": core.ErrTooManySessionsOfConsumer.Error()}},
	500: {"Something failed that is no fault of the request.", nil},
	503: {"Events cannot be read right now, or there are too many sessions.", map[string]any{"detail": core.ErrUnavailable.Error()}},
}

func header(description, example string) *huma.Header {
	return &huma.Header{Description: description, Example: example, Schema: &huma.Schema{Type: huma.TypeString}}
}

var requestID = header("The id of the request in the log.", "0197a6f0-6b1c-7cc3-98c4-dc0c0c07398f")

func ptr[T any](v T) *T { return &v }
