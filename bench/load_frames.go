//go:build linux

package main

import "bytes"

// stamp begins the payloads of the benchmark: the writer's clock before the insert, in nanoseconds.
var stamp = []byte(`{"t":`)

var (
	idField    = []byte("id: ")
	eventField = []byte("event: ")
	dataField  = []byte("data: ")
)

// frames counts the whole frames of a connection's bytes and returns the rest. It goes by lines because
// finding a single byte is what the machine is fastest at, and looks at no more of each than it counts. The lines
// around a chunk are none of a frame's: they begin with a digit or a carriage return.
func (g *group) frames(c *conn, b []byte, now int64) []byte {
	rest := b
	var id, sent int64
	var special byte
	for {
		n := bytes.IndexByte(b, '\n')
		if n < 0 {
			return rest
		}
		line := b[:n]
		b = b[n+1:]
		switch {
		case n == 0:
			g.frame(c, id, special, sent, now)
			id, sent, special = 0, 0, 0
			rest = b
		case line[0] == 'd' && bytes.HasPrefix(line, dataField):
			if data := line[len(dataField):]; bytes.HasPrefix(data, stamp) {
				sent = number(data[len(stamp):])
			}
		case line[0] == 'i' && bytes.HasPrefix(line, idField):
			id = number(line[len(idField):])
		case line[0] == 'e' && bytes.HasPrefix(line, eventField):
			special = line[len(eventField)]
		}
	}
}

// frame counts one frame. Heartbeats and resets are told apart from events by the first letter of their types, which no
// event of the benchmark has.
func (g *group) frame(c *conn, id int64, special byte, sent, now int64) {
	switch {
	case special == 'h':
		g.Heartbeats++
	case special == 'r':
		g.Resets++
	case id > 0:
		g.event(c, id, sent, now)
	}
}

func (g *group) event(c *conn, id, sent, now int64) {
	g.Events++
	g.total++
	if g.asked.Kind != nchan && id <= c.last {
		g.Disorder++
	}
	if c.last < g.mark && id >= g.mark {
		g.behind--
	}
	c.last = id
	if sent > 0 {
		g.latency.add(now - sent)
	}
}

// number reads the digits that b begins with.
func number(b []byte) (n int64) {
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

var (
	idMember     = []byte(`"id":`)
	cursorMember = []byte(`"cursor":`)
	tMember      = []byte(`"t":`)
)

// sentAt is when the first payload in b was made, 0 if it does not say.
func sentAt(b []byte) int64 {
	i := bytes.Index(b, tMember)
	if i < 0 {
		return 0
	}
	return number(b[i+len(tMember):])
}

// answered counts a whole answer to a poll and notes the cursor to go on from. An answer of nchan is one event as it was
// published.
func (g *group) answered(c *conn, body []byte, now int64) {
	g.Answers++
	if g.asked.Kind == nchanPoll {
		g.event(c, c.last+1, sentAt(body), now)
		return
	}
	for {
		i := bytes.Index(body, idMember)
		if i < 0 {
			break
		}
		body = body[i+len(idMember):]
		g.event(c, number(body), sentAt(body), now)
	}
	if i := bytes.Index(body, cursorMember); i >= 0 {
		c.cursor = number(body[i+len(cursorMember):])
	}
}
