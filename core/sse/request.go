package sse

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

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
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		// Ignored, a cursor that cannot be read would silently become "from now on".
		return ask{}, errors.New("the query cannot be read")
	}
	if a.types, err = core.ParseTypes(query["types"]); err != nil {
		return ask{}, fmt.Errorf("types: %w", err)
	}
	name, values := "Last-Event-ID", r.Header.Values("Last-Event-ID")
	for _, parameter := range cursorParameters {
		if empty(values) {
			name, values = parameter, query[parameter]
		}
	}
	switch {
	case empty(values):
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

// empty reports that no cursor is given; polyfills send an empty one before their first event.
func empty(values []string) bool { return len(values) == 0 || len(values) == 1 && values[0] == "" }
