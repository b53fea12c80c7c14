package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/event-piper/event-piper/chaos/check"
)

// topics are addresses that several consumers may read.
var topics = []string{"team-1", "team 2, and its friends", "order-7"}

// written are the addresses that writers write to.
var written = slices.Concat(consumers, topics)

// interest is what the gateway grants a reader, and what of it the reader asks for.
type interest struct {
	grants  string   // X-Consumer-Topics
	asked   string   // the parameter topics; all grants by name without it
	asks    bool     // whether it has the parameter
	follows []string // what comes of it
}

var interests = []interest{
	{},
	{grants: "team-1", follows: []string{"team-1"}},
	{grants: "team-1, order-*, " + encoded(topics[1]), follows: []string{"team-1", topics[1]}},
	{grants: "order-*, team-*", asked: "order-7", asks: true, follows: []string{"order-7"}},
	{grants: "*", asked: "team-1,order-7," + encoded(topics[1]), asks: true, follows: topics},
	{grants: "team-1, order-7", asks: true},
}

func encoded(topic string) string { return strings.ReplaceAll(url.PathEscape(topic), ",", "%2C") }

// add has a request say so.
func (i interest) add(q *http.Request) {
	if i.grants != "" {
		q.Header.Set("X-Consumer-Topics", i.grants)
	}
	if i.asks {
		query := q.URL.Query()
		query.Set("topics", i.asked)
		q.URL.RawQuery = query.Encode()
	}
}

// addresses are those of which a session of the reader gets events, its own first.
func (r *reader) addresses() []string { return append([]string{r.address}, r.interest.follows...) }

// join begins to follow other topics, or ends to, with the cursor that the reader has.
func (r *reader) join() { r.interest = pick(r.random, interests) }

// end is the cursor at which a reader has all events of its addresses.
func (r *reader) end() (int64, bool) {
	last := r.ends.Load()
	if last == nil {
		return check.FromNow, false
	}
	var end int64
	for _, address := range r.addresses() {
		end = max(end, (*last)[address])
	}
	return end, true
}
