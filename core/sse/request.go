package sse

import (
	"fmt"
	"net/http"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/web"
)

// cursorParameters are the query parameters that carry a cursor for clients that cannot set a header.
var cursorParameters = []string{"lastEventId", "last_event_id", "after"}

// ask is what a request asks for.
type ask struct {
	identity auth.Identity
	access   *web.Access
	cursor   int64
	types    core.Types
}

// parse reads what a request asks for. The header wins over the query: a browser that reconnects sends the
// URL it started with and the id it has come to.
func parse(r *http.Request) (a ask, err error) {
	query := r.URL.Query()
	if a.types, err = core.ParseTypes(query["types"]); err != nil {
		return ask{}, fmt.Errorf("types: %w", err)
	}
	name, values := "Last-Event-ID", r.Header.Values("Last-Event-ID")
	for _, parameter := range cursorParameters {
		if len(values) == 0 || values[0] == "" {
			name, values = parameter, query[parameter]
		}
	}
	switch {
	case len(values) == 0 || values[0] == "" && len(values) == 1:
		a.cursor = core.FromNow
	case len(values) > 1:
		return ask{}, fmt.Errorf("%s: given more than once", name)
	default:
		if a.cursor, err = core.ParseCursor(values[0]); err != nil {
			return ask{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return a, nil
}
