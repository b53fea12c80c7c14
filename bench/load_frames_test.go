//go:build linux

package main

import (
	"slices"
	"testing"
)

const streamed = "29\r\nid: 5\nevent: heartbeat\ndata: thump\nretry: 1500\n\n\r\n" +
	"2d\r\nid: 7\nevent: insert\ndata: {\"t\":1000,\"p\":\"x\"}\n\n\r\n" +
	"d5\r\nevent: insert\ndata: {\"foo\":\"bar\"}\nid: 9\n\n\r\n" +
	"e5\r\nid: 9\nevent: reset\ndata: {\"reason\":\"pruned\",\"oldest\":9,\"newest\":20}\n\n\r\n" +
	"20\r\nid: 9\nevent: insert\ndata: {}\n\n"

func TestFramesAreCountedWhereverReadsSplitThem(t *testing.T) {
	want := Counts{Events: 3, Heartbeats: 1, Resets: 1, Disorder: 1}
	for split := range len(streamed) {
		g := &group{mark: 8, behind: 1}
		var c conn
		rest := slices.Clone(g.frames(&c, []byte(streamed[:split]), 5000))
		rest = g.frames(&c, append(rest, streamed[split:]...), 5000)
		if g.Counts != want || len(rest) > 0 {
			t.Fatalf("split at %d: counted %+v and left %q, want %+v and nothing", split, g.Counts, rest, want)
		}
		if c.last != 9 || g.behind != 0 {
			t.Errorf("split at %d: the newest id is %d with %d behind, want 9 with none", split, c.last, g.behind)
		}
		if got := g.latency[4]; got != 1 {
			t.Errorf("split at %d: %d latencies of 4 µs, want 1", split, got)
		}
	}
}

func TestAnswerToPoll(t *testing.T) {
	body := `{"events":[{"id":3,"type":"insert","timestamp":"2026-01-01T00:00:00Z","payload":{"t":1000,"p":"x"}},` +
		`{"id":5,"type":"insert","timestamp":"2026-01-01T00:00:00Z","payload":{"t":2000,"p":"x"}}],"cursor":6,"more":false}`
	var g group
	var c conn
	g.answered(&c, []byte(body), 5000)
	if want := (Counts{Events: 2, Answers: 1}); g.Counts != want {
		t.Errorf("counted %+v, want %+v", g.Counts, want)
	}
	if c.last != 5 || c.cursor != 6 {
		t.Errorf("last id %d and cursor %d, want 5 and 6", c.last, c.cursor)
	}
	if g.latency[3] != 1 || g.latency[4] != 1 {
		t.Errorf("latencies of 3 and 4 µs: %d and %d, want one of each", g.latency[3], g.latency[4])
	}
}

func BenchmarkFrames(b *testing.B) {
	frame := "id: 123456\nevent: insert\ndata: " + payload() + "\n\n"
	var input []byte
	for range 100 {
		input = append(input, frame...)
	}
	var g group
	var c conn
	b.SetBytes(int64(len(input)))
	for b.Loop() {
		g.frames(&c, input, 0)
	}
}
