package core

import (
	"fmt"
	"strconv"
	"strings"
)

// A cursor is the id of the last event a reader has seen: reading goes on with the ids above it. Since
// an id never appears below one that was delivered, the integer is all there is to remember, and one
// cursor is valid for every instance and every way to read.
const (
	// FromStart is the cursor before the first event.
	FromStart int64 = 0
	// FromNow stands for the newest position at the time of asking.
	FromNow int64 = -1
)

// ParseCursor reads a cursor as clients write it: a non-negative decimal integer. An integer too large
// for any event is a cursor beyond every position, not an error.
func ParseCursor(s string) (int64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("a cursor is a non-negative integer")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return MaxID, nil
	}
	return min(n, MaxID), nil
}

// Types is the set of event types a reader wants; an empty one stands for all.
type Types []string

// Want reports whether an event of type t is wanted.
func (ts Types) Want(t string) bool {
	for _, want := range ts {
		if want == t {
			return true
		}
	}
	return len(ts) == 0
}

// MaxTypes bounds how many types a reader can ask for.
const MaxTypes = 64

// ParseTypes reads lists of event types in either form clients use, repeated and comma-separated. Spaces around a type do
// not count, as in the lists of HTTP.
func ParseTypes(lists []string) (Types, error) {
	var types Types
	for _, list := range lists {
		if strings.Trim(list, " \t") == "" {
			continue
		}
		for t := range strings.SplitSeq(list, ",") {
			t = strings.Trim(t, " \t")
			if err := CheckName(t); err != nil {
				return nil, fmt.Errorf("an event type %w", err)
			}
			types = append(types, t)
		}
	}
	if len(types) > MaxTypes {
		return nil, fmt.Errorf("more than %d event types", MaxTypes)
	}
	return types, nil
}

// place is where a reader is: the cursor it has come to, and what it wants after that.
type place struct {
	cursor int64
	types  Types
}

// take appends the wanted ones of rest until the caller has enough, moves the cursor, and reports how many
// of rest it went past.
func (p *place) take(events, rest []*Event, limit, maxBytes int) ([]*Event, int) {
	bytes := 0
	for i, e := range rest {
		if p.types.Want(e.Type) {
			bytes += len(e.Payload)
			if n := len(events); n >= limit || n > 0 && bytes > maxBytes {
				return events, i
			}
			events = append(events, e)
		}
		p.cursor = e.ID
	}
	return events, len(rest)
}
