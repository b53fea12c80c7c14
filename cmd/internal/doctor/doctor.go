// Package doctor looks at a service from outside, as a client behind all proxies would.
package doctor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/event-piper/event-piper/postgresql"
)

const (
	// patience bounds the wait for an answer's headers and for a stream's first frame, which a service sends at once.
	patience = 5 * time.Second
	// buffered is how long the first frame may take before something must be holding it back.
	buffered = 2 * time.Second
)

// Config says what to look at.
type Config struct {
	URL, Consumer, Token string
	// Watch is how long to stay on a stream, to see heartbeats and idle timeouts.
	Watch time.Duration
}

// Visit asks a service for a poll and a stream and tells what it found.
func Visit(ctx context.Context, c Config) (findings []postgresql.Finding) {
	note := func(problem bool, format string, args ...any) {
		findings = append(findings, postgresql.Finding{Problem: problem, Text: fmt.Sprintf(format, args...)})
	}
	c.poll(ctx, note)
	c.stream(ctx, note)
	return findings
}

func (c Config) ask(ctx context.Context, path, accept string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", accept)
	r.Header.Set("Accept-Encoding", "gzip") // as browsers do; it also keeps net/http from hiding what comes
	if c.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.Token)
	} else {
		r.Header.Set("X-Consumer-Id", c.Consumer)
	}
	return http.DefaultClient.Do(r)
}

func (c Config) poll(ctx context.Context, note func(bool, string, ...any)) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	start := time.Now()
	response, err := c.ask(ctx, "/events/poll?wait=0", "application/json")
	if err != nil {
		note(true, "GET /events/poll: %v", err)
		return
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 500))
	switch response.StatusCode {
	case http.StatusOK:
		note(false, "a poll is answered in %v", time.Since(start).Round(time.Millisecond))
	case http.StatusUnauthorized, http.StatusForbidden:
		note(true, "a poll is answered with %s: say who asks by --consumer or --token", response.Status)
	default:
		note(true, "a poll is answered with %s: %s", response.Status, strings.TrimSpace(string(body)))
	}
}

func (c Config) stream(ctx context.Context, note func(bool, string, ...any)) {
	ctx, cancel := context.WithTimeout(ctx, patience+c.Watch)
	defer cancel()
	start := time.Now()
	response, err := c.ask(ctx, "/events", "text/event-stream")
	if err != nil {
		note(true, "GET /events: %v: if the poll works, something holds the stream's headers back", err)
		return
	}
	defer func() { _ = response.Body.Close() }()
	media := response.Header.Get("Content-Type")
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(media, "text/event-stream") {
		note(true, "a stream is answered with %s, %s", response.Status, media)
		return
	}
	note(false, "a stream comes over %s", response.Proto)
	if encoding := response.Header.Get("Content-Encoding"); encoding != "" {
		note(true, "the stream is compressed (%s), which holds events back: except text/event-stream from compression", encoding)
		return
	}
	frames := readFrames(response.Body)
	select {
	case _, open := <-frames:
		took := time.Since(start)
		if !open {
			note(true, "the stream ended before its first frame: too many sessions, or a proxy that allows no stream")
			return
		}
		if took > buffered {
			note(true, "the first frame came after %v, though the service sends it at once: a proxy buffers", took.Round(time.Millisecond))
		} else {
			note(false, "the first frame came after %v", took.Round(time.Millisecond))
		}
	case <-time.After(patience):
		note(true, "no frame within %v: a proxy buffers the stream; switch that off for /events (nginx: proxy_buffering off)", patience)
		return
	}
	c.watch(frames, note)
}

// watch sees whether heartbeats come and the stream lasts.
func (c Config) watch(frames <-chan struct{}, note func(bool, string, ...any)) {
	start, last := time.Now(), time.Now()
	var longest time.Duration
	count := 0
	end := time.After(c.Watch)
	for {
		select {
		case _, open := <-frames:
			if !open {
				note(true, "the stream ended after %v: an idle timeout must be above HEARTBEAT_INTERVAL, and a limit on requests does not fit streams",
					time.Since(start).Round(100*time.Millisecond))
				return
			}
			longest, last = max(longest, time.Since(last)), time.Now()
			count++
		case <-end:
			if count == 0 {
				note(true, "no heartbeat within %v: HEARTBEAT_INTERVAL is longer, or a proxy buffers what is small", c.Watch)
				return
			}
			note(false, "%d more frames in %v, the longest silence %v", count, c.Watch, longest.Round(100*time.Millisecond))
			return
		}
	}
}

// readFrames signals the end of each frame, until the body ends.
func readFrames(body io.Reader) <-chan struct{} {
	frames := make(chan struct{}, 1000)
	go func() {
		defer close(frames)
		for lines := bufio.NewReader(body); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\n" {
				select {
				case frames <- struct{}{}:
				default: // busy enough
				}
			}
		}
	}()
	return frames
}
