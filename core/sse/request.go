package sse

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/web"
)

// cursorParameters are the query parameters that carry a cursor for clients that cannot set a header. The first that
// is given counts: polyfills add theirs to a URL that may have begun with after.
var cursorParameters = []string{"lastEventId", "last_event_id", "after"}

// parameters are the others.
var parameters = []string{"types", "topics", "format", "view"}

// ask is what a request asks for.
type ask struct {
	identity  auth.Identity
	access    *web.Access
	transport core.Transport
	cursor    int64
	types     core.Types
	view      core.View
	topics    []string // as asked for; nil if nothing was
}

// parse reads what a request asks for. The header wins over the query: a browser that reconnects sends the
// URL it started with and the id it has come to.
func parse(r *http.Request) (a ask, err error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		// Ignored, a cursor that cannot be read would silently become "from now on".
		return ask{}, errors.New("the query cannot be read")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(parameters, name) && !slices.Contains(cursorParameters, name) {
			return ask{}, fmt.Errorf("%q is not a parameter of a stream", name) // a cursor misspelled would be lost events
		}
	}
	if a.types, err = core.ParseTypes(query["types"]); err != nil {
		return ask{}, fmt.Errorf("types: %w", err)
	}
	if a.topics, err = core.ParseTopics(query["topics"]); err != nil {
		return ask{}, fmt.Errorf("topics: %w", err)
	}
	if a.view, err = parseView(query); err != nil {
		return ask{}, err
	}
	name, value, err := givenCursor(r.Header.Values("Last-Event-ID"), query)
	if err != nil {
		return ask{}, err
	}
	if value == "" {
		a.cursor = core.FromNow
		return a, nil
	}
	if a.cursor, err = core.ParseCursor(value); err != nil {
		return ask{}, fmt.Errorf("%s: %w", name, err)
	}
	return a, nil
}

func parseView(query url.Values) (v core.View, err error) {
	for _, name := range []string{"format", "view"} {
		if len(query[name]) > 1 {
			return v, fmt.Errorf("%s: given more than once", name)
		}
	}
	if v.Format, err = core.ParseFormat(query.Get("format")); err != nil {
		return v, fmt.Errorf("format: %w", err)
	}
	if v.Current, err = core.ParseView(query.Get("view")); err != nil {
		return v, fmt.Errorf("view: %w", err)
	}
	return v, nil
}

// givenCursor finds the cursor and what carries it; the value is empty if there is none. Empty ones do not count: polyfills
// send them before their first event. Of a repeated parameter the last counts, since a polyfill appends its own to
// the URL that it was given.
func givenCursor(headers []string, query url.Values) (name, value string, err error) {
	switch {
	case len(headers) > 1:
		return "", "", errors.New("Last-Event-ID: given more than once")
	case len(headers) == 1 && headers[0] != "":
		return "Last-Event-ID", headers[0], nil
	}
	for _, name := range cursorParameters {
		for _, value := range slices.Backward(query[name]) {
			if value != "" {
				return name, value, nil
			}
		}
	}
	return "", "", nil
}
