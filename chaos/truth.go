package main

import (
	"fmt"
	"time"
)

// grace is how long an event may be on its way while health still says UP: what a server takes at most to notice that
// its connection has died without a word.
const grace = 10 * time.Second

// soon is how long before its delivery health may say UP again.
const soon = 2 * time.Second

// lies are the moments at which health said something that the deliveries contradict: UP for longer than the grace while
// an event that nothing held back did not arrive, or DOWN for as long while events arrived. Away says when a fault stood
// between a server and its clients, of which no health check can know.
func (p *probe) lies(away func(target string, from, to time.Time) bool) (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.targets {
		states := p.states[t.name]
		for _, e := range p.events {
			got := e.got[t.name]
			if got.IsZero() || e.free.IsZero() {
				continue
			}
			from := e.owed(got)
			if late := got.Sub(from); late <= grace || away(t.name, from, got) {
				continue
			}
			for _, s := range states {
				if s.state == up && s.at.After(from.Add(grace)) && s.at.Before(got.Add(-soon)) {
					list = append(list, fmt.Sprintf("%s said UP at %s, while event %d was not delivered from %s to %s", t.name,
						clock(s.at), e.id, clock(from), clock(got)))
					break
				}
			}
		}
		list = append(list, p.falseAlarms(t.name, states)...)
	}
	return list
}

// falseAlarms are spans of DOWN, longer than the grace, in which every event arrived within a second.
func (p *probe) falseAlarms(target string, states []sample) (list []string) {
	var since time.Time
	for _, s := range states {
		switch {
		case s.state != down:
			since = time.Time{}
		case since.IsZero():
			since = s.at
		case s.at.Sub(since) > grace:
			if n := p.promptIn(target, since, s.at); n > 0 {
				list = append(list, fmt.Sprintf("%s said DOWN from %s to %s, while %d events were delivered at once", target,
					clock(since), clock(s.at), n))
			}
			since = time.Time{}
		}
	}
	return list
}

// promptIn counts the events of a span if all were prompt.
func (p *probe) promptIn(target string, from, to time.Time) (n int) {
	for _, e := range p.events {
		if e.committed.Before(from) || e.committed.After(to) {
			continue
		}
		if got := e.got[target]; got.IsZero() || got.Sub(e.committed) > time.Second {
			return 0
		}
		n++
	}
	return n
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
