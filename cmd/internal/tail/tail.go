// Package tail follows the events of a consumer from a terminal or a script, over any number of connections.
package tail

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/event-piper/event-piper/core"
)

const (
	// silence is how long a connection may say nothing: heartbeats come every few seconds.
	silence = time.Minute
	// patience bounds the wait between two attempts.
	patience = 30 * time.Second
	// maxLine bounds one line of a stream.
	maxLine = 256 << 20
)

// Config says what to follow.
type Config struct {
	// URL is where the service is, without /events.
	URL string
	// Consumer and Token say who asks; either may be empty.
	Consumer, Token string
	// After is the cursor to start from; empty is from now on.
	After string
	// Types and Format are those of the service's parameters; empty are all types, and payloads.
	Types  core.Types
	Format string

	// Poller, if not nil, is read instead of the service. Source is that of CloudEvents then.
	Poller core.Poller
	Source string
}

// refusal is what waiting does not change.
type refusal struct{ error }

// Run writes a line for each event to out, its id, type and data between tabs, until ctx ends or the service
// refuses for good. It reconnects with its cursor, and says so to notes.
func Run(ctx context.Context, c Config, out, notes io.Writer) error {
	t := &tailer{Config: c, out: out, retry: 2 * time.Second}
	connect := t.connect
	if c.Poller != nil {
		connect = t.poll
	}
	for failures := 0; ; failures++ {
		before := t.After
		err := connect(ctx)
		var final refusal
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &final), errors.Is(err, errOutput):
			return err
		case t.After != before:
			failures = 0
		}
		pause := min(t.retry<<min(failures, 4), patience)
		pause = pause/2 + rand.N(pause/2+1)
		_, _ = fmt.Fprintf(notes, "disconnected (%v); again after %q in %s\n", err, t.After, pause.Round(time.Millisecond))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// errOutput reports that nobody takes what is written.
var errOutput = errors.New("write an event")

type tailer struct {
	Config
	out   io.Writer
	retry time.Duration
}

// connect follows over one connection. It returns an error, io.EOF for an orderly end.
func (t *tailer) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(errors.New("nothing came for a minute")) })
	defer quiet.Stop()
	query := url.Values{}
	for name, value := range map[string]string{"types": strings.Join(t.Types, ","), "format": t.Format} {
		if value != "" {
			query.Set(name, value)
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(t.URL, "/")+"/events?"+query.Encode(), nil)
	if err != nil {
		return refusal{err}
	}
	r.Header.Set("Accept", "text/event-stream")
	for name, value := range map[string]string{"X-Consumer-Id": t.Consumer, "Last-Event-ID": t.After} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	if t.Token != "" {
		r.Header.Set("Authorization", "Bearer "+t.Token)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // only read
	if status := response.StatusCode; status != http.StatusOK {
		if status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout {
			text, _ := io.ReadAll(io.LimitReader(response.Body, 1000)) // as much as there is
			return refusal{fmt.Errorf("the service answers %s %s", response.Status, strings.TrimSpace(string(text)))}
		}
		return errors.New(response.Status)
	}
	if err := t.read(response.Body, func() { quiet.Reset(silence) }); ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}

func (t *tailer) write(id, kind, data string) error {
	if _, err := fmt.Fprintf(t.out, "%s\t%s\t%s\n", id, kind, data); err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}

// read reads frames (WHATWG HTML, section 9.2.6). The cursor moves when an event has been written, so that a cut
// loses none.
func (t *tailer) read(body io.Reader, alive func()) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	id, kind := t.After, ""
	var data []string
	for lines.Scan() {
		alive()
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			data = append(data, value)
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				t.retry = min(time.Duration(ms)*time.Millisecond, patience)
			}
		case "":
			if lines.Text() != "" {
				continue // a comment
			}
			if kind != "heartbeat" && len(data) > 0 {
				if err := t.write(id, kind, strings.Join(data, "\n")); err != nil {
					return err
				}
			}
			t.After, kind, data = id, "", nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}
