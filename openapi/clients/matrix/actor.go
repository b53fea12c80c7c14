package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// patience bounds a scenario.
const patience = 90 * time.Second

// actor is a client's process in one scenario, with its proxy and its events.
type actor struct {
	*proxy
	world   *world
	process *exec.Cmd
	output  syncBuffer
	ended   chan struct{} // closed when the process has ended
	sent    []string      // the tokens of the events that were inserted

	mu       sync.Mutex
	received map[string]int // guarded by mu: how often each token came
	news     chan struct{}  // gets one for each event
	beats    chan struct{}  // gets one for each heartbeat
}

func newActor(ctx context.Context, w *world, c client, consumer string) (*actor, error) {
	p, err := newProxy(w.service.address, consumer)
	if err != nil {
		return nil, err
	}
	a := &actor{proxy: p, world: w, ended: make(chan struct{}), received: map[string]int{}, news: make(chan struct{}, 10_000), beats: make(chan struct{}, 1000)}
	a.process = exec.CommandContext(ctx, c.command[0], c.command[1:]...) //nolint:gosec // of the list in clients.go
	a.process.Dir = os.Getenv("WORK")
	a.process.Env = append(os.Environ(), "EVENTS_URL="+p.url())
	a.process.Stderr = &a.output
	a.process.WaitDelay = time.Second
	stdout, err := a.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.process.Start(); err != nil {
		return nil, err
	}
	go a.read(stdout)
	return a, nil
}

// read takes the client's lines: "got" and the token of an event, and "beat" for a heartbeat.
func (a *actor) read(stdout io.Reader) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		token, ok := strings.CutPrefix(lines.Text(), "got ")
		if !ok {
			signal(a.beats)
			continue
		}
		a.mu.Lock()
		a.received[token]++
		a.mu.Unlock()
		a.news <- struct{}{}
	}
	_ = a.process.Wait()
	close(a.ended)
}

func (a *actor) stop() {
	_ = a.process.Process.Kill()
	<-a.ended
	a.close()
}

// insert inserts so many events, whose payloads are filled up to size.
func (a *actor) insert(ctx context.Context, n, size int) error {
	for range n {
		token := fmt.Sprint("t", len(a.sent))
		payload := fmt.Sprintf(`{"token":%q,"fill":"%s"}`, token, strings.Repeat("x", size))
		a.sent = append(a.sent, token)
		_, err := a.world.db.Exec(ctx, `insert into events (type, subscriber, payload) values ('order', $1, $2)`, a.consumer, payload)
		if err != nil {
			return err
		}
	}
	return nil
}

// await waits for a signal of the proxy.
func (a *actor) await(ctx context.Context, signal <-chan struct{}, what string) error {
	select {
	case <-signal:
		return nil
	case <-a.ended:
		return errors.New("gave up")
	case <-ctx.Done():
		return fmt.Errorf("waited in vain for %s", what)
	}
}

// awaitStream waits until the client has taken the first frame of a stream. What has only reached its socket may be lost
// with the connection: Chromium forgets what it has not looked at when a connection fails.
func (a *actor) awaitStream(ctx context.Context) error {
	if err := a.await(ctx, a.opened, "a stream"); err != nil {
		return err
	}
	return a.await(ctx, a.beats, "the first frame")
}

// cutOff ends the client's connection.
func (a *actor) cutOff() {
	a.hangUp()
	for len(a.beats) > 0 {
		<-a.beats // of the stream that has ended
	}
}

// awaitAll waits until every event that was inserted has come.
func (a *actor) awaitAll(ctx context.Context) error {
	for len(a.missing()) > 0 {
		if err := a.await(ctx, a.news, "events"); err != nil {
			return err
		}
	}
	return nil
}

func (a *actor) missing() (tokens []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, token := range a.sent {
		if a.received[token] == 0 {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// outcome is how a scenario ended for a client.
type outcome struct {
	sent, lost int
	err        error
	log        string
}

// settle is how long an event may take that is the last one missing, when others have come that were inserted later.
const settle = 15 * time.Second

func (a *actor) outcome(ctx context.Context, err error) outcome {
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, settle)
		defer cancel()
		err = a.awaitAll(ctx)
	}
	o := outcome{sent: len(a.sent), lost: len(a.missing()), err: err}
	a.proxy.mu.Lock()
	defer a.proxy.mu.Unlock()
	o.log = fmt.Sprintf("  missing %v\n  asked: %s\n  said: %s", a.missing(), strings.Join(a.requests, "; "), a.output.last())
	return o
}

// complaint says what is wrong with an outcome, and is empty if nothing is.
func (o outcome) complaint() string {
	switch {
	case o.lost > 0 && o.err != nil && o.err.Error() == "gave up":
		return "gives up"
	case o.lost > 0:
		return fmt.Sprintf("loses %d of %d", o.lost, o.sent)
	case o.err != nil:
		return o.err.Error()
	}
	return ""
}

// syncBuffer takes what a process says while others look at it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// last returns the end of what was said.
func (s *syncBuffer) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.b.Bytes()
	return string(b[max(0, len(b)-2000):])
}
