package eventpiper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// answer is a response whose every step must happen within a time of its own.
type answer struct {
	*http.Response
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
	ctx    context.Context
}

// Read implements io.Reader.
func (a *answer) Read(b []byte) (int, error) {
	a.timer.Reset(a.limit)
	n, err := a.Body.Read(b)
	a.timer.Stop() // what the caller does meanwhile is not the service's silence
	if err != nil && !errors.Is(err, io.EOF) {
		err = a.cause(err)
	}
	return n, err
}

func (a *answer) cause(err error) error {
	if cause := context.Cause(a.ctx); cause != nil {
		return cause
	}
	return err
}

func (a *answer) close() {
	a.timer.Stop()
	a.cancel(nil)
	if a.Response != nil {
		_ = a.Body.Close()
	}
}

// get sends a request and checks that the answer is of the wanted media type, or 410. The cursor is in the query, since
// a stream's header is not a poll's.
func (s *Subscription) get(ctx context.Context, path, accept string, limit time.Duration, query url.Values) (*answer, error) {
	target, err := url.Parse(s.URL)
	if err != nil {
		return nil, errCaller{err}
	}
	target.Path += path
	own := target.Query()
	maps.Copy(own, query)
	target.RawQuery = own.Encode()

	ctx, cancel := context.WithCancelCause(ctx)
	a := &answer{limit: limit, cancel: cancel, ctx: ctx}
	a.timer = time.AfterFunc(limit, func() { cancel(fmt.Errorf("eventpiper: nothing came from %s in time", target)) })
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		a.close()
		return nil, errCaller{err}
	}
	if s.Header != nil {
		header, err := s.Header(ctx)
		if err != nil {
			a.close()
			return nil, fmt.Errorf("eventpiper: make headers: %w", err)
		}
		r.Header = header.Clone()
	}
	r.Header.Set("Accept", accept)
	client := s.Client
	if client == nil {
		client = http.DefaultClient
	}
	if a.Response, err = client.Do(r); err != nil { //nolint:bodyclose // answer.close does
		err = a.cause(err)
		a.close()
		return nil, err
	}
	a.timer.Stop()
	served := a.StatusCode == http.StatusOK && strings.HasPrefix(a.Header.Get("Content-Type"), accept)
	if !served && a.StatusCode != http.StatusGone {
		a.close()
		seconds, _ := strconv.Atoi(a.Header.Get("Retry-After")) // absent or a date: none
		return nil, &StatusError{Code: a.StatusCode, URL: target.String(), RetryAfter: time.Duration(seconds) * time.Second}
	}
	return a, nil
}

type page struct {
	Events []Event
	Cursor int64
}

// page asks for one page. A cursor that cannot be continued is a *Reset.
func (s *Subscription) page(ctx context.Context, after int64, wait int) (*page, error) {
	query := url.Values{"wait": {strconv.Itoa(wait)}}
	if after != FromNow {
		query.Set("after", strconv.FormatInt(after, 10))
	}
	a, err := s.get(ctx, "/poll", "application/json", s.Patience+time.Duration(wait)*time.Second, query)
	if err != nil {
		return nil, err
	}
	defer a.close()
	a.limit = s.Silence
	body, err := io.ReadAll(a)
	if err != nil {
		return nil, err
	}
	if a.StatusCode != http.StatusGone {
		p := new(page)
		return p, json.Unmarshal(body, p)
	}
	var gone struct {
		Reason         string
		Oldest, Newest int64
		Cursor         *int64
	}
	if err := json.Unmarshal(body, &gone); err != nil || gone.Reason == "" {
		return nil, &StatusError{Code: a.StatusCode, URL: s.URL}
	}
	r := &Reset{Reason: gone.Reason, Oldest: gone.Oldest, Newest: gone.Newest, Cursor: gone.Oldest}
	switch {
	case gone.Cursor != nil:
		r.Cursor = *gone.Cursor
	case gone.Reason == "ahead":
		r.Cursor = gone.Newest
	}
	return nil, r
}

// poll reads one page by long-polling.
func (s *Subscription) poll(ctx context.Context, wait time.Duration, take func(Event) error) error {
	if s.Cursor == FromNow {
		wait = 0 // an answer that gets lost would take the start with it: ask for that first
	}
	p, err := s.page(ctx, s.Cursor, int((max(0, min(wait, longestPoll))+time.Second-1)/time.Second))
	var reset *Reset
	if errors.As(err, &reset) {
		return s.reset(ctx, reset)
	}
	if err != nil {
		return err
	}
	for _, e := range p.Events {
		if err := take(e); err != nil {
			return err
		}
	}
	return s.pass(ctx, p.Cursor)
}

// stream reads one stream to its end (WHATWG HTML, section 9.2.6).
func (s *Subscription) stream(ctx context.Context, take func(Event) error) error {
	query := url.Values{}
	if s.Cursor != FromNow {
		query.Set("after", strconv.FormatInt(s.Cursor, 10))
	}
	if s.Format != "" {
		query.Set("format", s.Format)
	}
	a, err := s.get(ctx, "", "text/event-stream", s.Patience, query)
	if err != nil {
		return err
	}
	defer a.close()
	if a.StatusCode == http.StatusGone {
		return &StatusError{Code: a.StatusCode, URL: s.URL}
	}
	lines := bufio.NewReader(a)
	for f := (frame{id: FromNow}); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // the service or a proxy has ended it; half a frame is none
		}
		if err != nil {
			return err
		}
		s.line = true
		if !f.add(bytes.TrimSuffix(line, []byte("\n"))) {
			continue
		}
		if f.retry > 0 {
			s.retry = f.retry
		}
		if f.data != nil {
			s.frame = true
			a.limit = s.Silence
			if err := s.dispatch(ctx, f, take); err != nil {
				return err
			}
		}
		f = frame{id: FromNow}
	}
}

// frame is the fields of a frame so far.
type frame struct {
	id    int64
	typ   string
	data  []byte // nil if there was none
	retry time.Duration
}

// add takes a line, and reports whether it was the empty one that ends the frame.
func (f *frame) add(line []byte) bool {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "id":
		if id, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			f.id = id
		}
	case "event":
		f.typ = string(value)
	case "data":
		if f.data != nil {
			f.data = append(f.data, '\n')
		}
		f.data = append(f.data, value...)
		if f.data == nil {
			f.data = []byte{}
		}
	case "retry":
		if ms, err := strconv.ParseInt(string(value), 10, 32); err == nil {
			f.retry = time.Duration(ms) * time.Millisecond
		}
	}
	return len(line) == 0
}

func (s *Subscription) dispatch(ctx context.Context, f frame, take func(Event) error) error {
	switch f.typ {
	case "heartbeat":
		return s.pass(ctx, f.id)
	case "reset":
		r := &Reset{Cursor: f.id}
		if err := json.Unmarshal(f.data, r); err != nil {
			return err
		}
		r.Cursor = f.id
		return s.reset(ctx, r)
	}
	if s.Format == "" {
		return take(Event{ID: f.id, Type: f.typ, Payload: f.data})
	}
	var e Event
	if err := json.Unmarshal(f.data, &e); err != nil {
		return err
	}
	return take(e)
}
