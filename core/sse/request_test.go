package sse

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, query string
		headers     []string
		cursor      int64
		types       core.Types
		err         string
	}{
		{name: "nothing", cursor: core.FromNow},
		{name: "header", headers: []string{"5"}, cursor: 5},
		{name: "from the start", headers: []string{"0"}, cursor: core.FromStart},
		{name: "lastEventId", query: "lastEventId=5", cursor: 5},
		{name: "last_event_id", query: "last_event_id=5", cursor: 5},
		{name: "after", query: "after=5", cursor: 5},
		{name: "the header is newer", query: "lastEventId=1&last_event_id=2&after=3", headers: []string{"5"}, cursor: 5},
		{name: "parameters in order", query: "after=3&last_event_id=2&lastEventId=1", cursor: 1},
		{name: "empty header", query: "after=5", headers: []string{""}, cursor: 5},
		{name: "empty parameter", query: "lastEventId=&after=5", cursor: 5},
		{name: "all empty", query: "lastEventId=&after", headers: []string{""}, cursor: core.FromNow},
		{name: "beyond every id", headers: []string{strings.Repeat("9", 30)}, cursor: core.MaxID},
		{name: "leading zeros", headers: []string{"007"}, cursor: 7},
		{name: "a polyfill appends", query: "lastEventId=5&lastEventId=6", cursor: 6},
		{name: "a polyfill appends to after", query: "after=5&lastEventId=6", cursor: 6},
		{name: "a polyfill appends nothing", query: "lastEventId=5&lastEventId=", cursor: 5},
		{name: "types with spaces around", query: "types=+a,+b%09&types=+", cursor: core.FromNow, types: core.Types{"a", "b"}},
		{name: "types", query: "types=a,b&types=c", cursor: core.FromNow, types: core.Types{"a", "b", "c"}},
		{name: "type with a space", query: "types=a+b%2Cc", cursor: core.FromNow, types: core.Types{"a b", "c"}},
		{name: "no types", query: "types=", cursor: core.FromNow},

		{name: "negative", headers: []string{"-1"}, err: "Last-Event-ID: a cursor is a non-negative integer"},
		{name: "a word", query: "after=now", err: "after: a cursor is a non-negative integer"},
		{name: "a fraction", query: "last_event_id=1.5", err: "last_event_id: a cursor is a non-negative integer"},
		{name: "a sign", query: "lastEventId=%2B1", err: "lastEventId: a cursor is a non-negative integer"},
		{name: "a wrong header is not made up for", query: "after=5", headers: []string{"x"},
			err: "Last-Event-ID: a cursor is a non-negative integer"},
		{name: "two headers", headers: []string{"5", "6"}, err: "Last-Event-ID: given more than once"},
		{name: "two headers, one empty", headers: []string{"", "6"}, err: "Last-Event-ID: given more than once"},
		{name: "the last is wrong", query: "after=5&after=x", err: "after: a cursor is a non-negative integer"},
		{name: "unknown parameter", query: "aftr=5", err: `"aftr" is not a parameter of a stream`},
		{name: "unknown parameter beside known ones", query: "types=a&After=5&after=5", err: `"After" is not a parameter of a stream`},
		{name: "empty type", query: "types=a,,b", err: "types: an event type is empty"},
		{name: "line break in a type", query: "types=a%0Ab", err: "types: an event type contains a control character"},
		{name: "not UTF-8", query: "types=%FF", err: "types: an event type is not UTF-8"},
		{name: "too many types", query: "types=a" + strings.Repeat(",a", core.MaxTypes), err: "types: more than 64 event types"},
		{name: "bad escape", query: "after=5%zz", err: "the query cannot be read"},
		{name: "semicolon", query: "x=1;after=5", err: "the query cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &http.Request{URL: &url.URL{Path: "/events", RawQuery: c.query}, Header: http.Header{"Last-Event-Id": c.headers}}
			got, err := parse(r)
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Fatalf("got error %v, want %q", err, c.err)
				}
				return
			}
			if want := (ask{cursor: c.cursor, types: c.types}); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("got %+v, %v; want %+v", got, err, want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("5", "lastEventId=1&types=a,b")
	f.Add("", "after=18446744073709551616&types=%00")
	f.Add("-0", "types=&types=,")
	f.Fuzz(func(t *testing.T, header, query string) {
		r := &http.Request{URL: &url.URL{Path: "/events", RawQuery: query}, Header: http.Header{}}
		if header != "" {
			r.Header.Set("Last-Event-ID", header)
		}
		a, err := parse(r)
		if err != nil {
			return
		}
		if a.cursor < core.FromNow || a.cursor > core.MaxID {
			t.Errorf("cursor %d is from nowhere", a.cursor)
		}
		if header != "" && a.cursor == core.FromNow {
			t.Errorf("header %q was ignored", header)
		}
		if len(a.types) > core.MaxTypes {
			t.Errorf("%d types, want at most %d", len(a.types), core.MaxTypes)
		}
		for _, typ := range a.types {
			if err := core.CheckName(typ); err != nil {
				t.Errorf("type %q %v", typ, err)
			}
		}
	})
}
