//go:build unix

package blackbox_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// answer is what came back for one request.
type answer struct {
	request string
	status  int
	header  http.Header
	body    string
}

// ask sends a request. Headers are given as name, value, name, value; an empty consumer sends none.
func ask(t testing.TB, method, url, consumer string, headers ...string) answer {
	t.Helper()
	a, err := try(method, url, consumer, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(method, url, consumer string, headers ...string) (answer, error) {
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		return answer{}, err
	}
	if consumer != "" {
		r.Header.Set("X-Consumer-Id", consumer)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return send(r)
}

func send(r *http.Request) (answer, error) {
	client := http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, fmt.Errorf("read the answer to %s: %w", r.URL, err)
	}
	return answer{request: r.Method + " " + r.URL.RequestURI(), status: response.StatusCode, header: response.Header, body: string(body)}, nil
}

// event is one as a poll answers with it.
type event struct {
	ID         int64
	Type       string
	Timestamp  time.Time
	Subscriber string
	Payload    json.RawMessage
}

type batch struct {
	Events []event
	Cursor int64
	More   bool
}

func (b batch) ids() []int64 {
	ids := make([]int64, len(b.Events))
	for i, e := range b.Events {
		ids[i] = e.ID
	}
	return ids
}

// batch reads the answer to a poll that must have succeeded.
func (a answer) batch(t testing.TB) batch {
	t.Helper()
	b, err := a.tryBatch()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (a answer) tryBatch() (b batch, err error) {
	if got := a.header.Get("Content-Type"); a.status != http.StatusOK || got != "application/json" {
		return b, fmt.Errorf("%s: want 200 application/json, got %d %s: %s", a.request, a.status, got, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &b); err != nil {
		return b, fmt.Errorf("%s: read %q: %w", a.request, a.body, err)
	}
	return b, nil
}

// problem is an error as every route reports it.
type problem struct {
	Title, Detail, Reason string
	Status                int
	Oldest, Newest        *int64
}

// problem checks that the answer is a problem of this status which gives away nothing of the inside.
func (a answer) problem(t testing.TB, status int) (p problem) {
	t.Helper()
	if got := a.header.Get("Content-Type"); a.status != status || got != "application/problem+json" {
		t.Errorf("%s: want %d application/problem+json, got %d %s: %s", a.request, status, a.status, got, a.body)
		return p
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Errorf("%s: want a problem, got %q: %v", a.request, a.body, err)
		return p
	}
	if p.Status != status || p.Title != http.StatusText(status) {
		t.Errorf("%s: want status %d and its text in the problem, got %s", a.request, status, a.body)
	}
	for _, secret := range []string{"pgx", "pgconn", "SQLSTATE", "goroutine", ".go:", "event_piper"} {
		if strings.Contains(a.body, secret) {
			t.Errorf("%s: want a problem for the public, got one with %q: %s", a.request, secret, a.body)
		}
	}
	return p
}

// frame is one message of a stream.
type frame struct {
	id          int64 // 0 without one
	event, data string
}

// stream is a session on GET /events over a connection of its own.
type stream struct {
	conn  net.Conn
	r     *bufio.Reader
	retry time.Duration // as told last
	// tellings is how many times it was told.
	tellings int
}

const fromNow = -1

// open asks for a stream after a cursor and returns once its headers and its first frame are there. An
// answer other than 200 is an error.
func open(addr, consumer string, cursor int64, headers ...string) (*stream, error) {
	return openAt(addr, "/events", consumer, cursor, headers...)
}

// openAt is open with a path and a query. The headers are pairs of a name and a value.
func openAt(addr, target, consumer string, cursor int64, headers ...string) (*stream, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	s := &stream{conn: conn, r: bufio.NewReader(conn)}
	if err := s.request(addr, target, consumer, cursor, headers...); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *stream) request(addr, target, consumer string, cursor int64, headers ...string) error {
	_ = s.conn.SetDeadline(time.Now().Add(patience))
	request := "GET " + target + " HTTP/1.1\r\nHost: " + addr + "\r\nX-Consumer-Id: " + consumer + "\r\n"
	for i := 0; i < len(headers); i += 2 {
		request += headers[i] + ": " + headers[i+1] + "\r\n"
	}
	if cursor != fromNow {
		request += "Last-Event-ID: " + strconv.FormatInt(cursor, 10) + "\r\n"
	}
	if _, err := io.WriteString(s.conn, request+"\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(s.r, nil)
	if err != nil {
		return fmt.Errorf("open a stream: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("open a stream: %w", &refusedError{response.StatusCode})
	}
	s.r = bufio.NewReader(response.Body)
	for s.tellings == 0 {
		if _, err := s.line(); err != nil {
			return fmt.Errorf("open a stream: %w", err)
		}
	}
	return nil
}

// refusedError is an answer to a request that was not served.
type refusedError struct{ status int }

func (e *refusedError) Error() string {
	return fmt.Sprintf("%d %s", e.status, http.StatusText(e.status))
}

// line reads a line, and takes note of it if it is a retry.
func (s *stream) line() (string, error) {
	line, err := s.r.ReadString('\n')
	line = strings.TrimSuffix(line, "\n")
	if ms, is := strings.CutPrefix(line, "retry: "); is && err == nil {
		n, err := strconv.Atoi(ms)
		if err != nil {
			return line, fmt.Errorf("want a number of milliseconds, got %q", line)
		}
		s.retry = time.Duration(n) * time.Millisecond
		s.tellings++
	}
	return line, err
}

// next returns the next frame, heartbeats too, within the test's patience; io.EOF at the stream's end.
func (s *stream) next() (f frame, err error) {
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		line, err := s.line()
		if err != nil {
			return f, err
		}
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "":
			if f.event != "" {
				return f, nil
			}
		case "retry":
		case "id":
			if f.id, err = strconv.ParseInt(value, 10, 64); err != nil {
				return f, fmt.Errorf("want an id, got %q", line)
			}
		case "event":
			f.event = value
		case "data":
			f.data = value
		default:
			return f, fmt.Errorf("want a field of an event, got %q", line)
		}
	}
}

// nextEvent is next without the heartbeats.
func (s *stream) nextEvent() (frame, error) {
	for {
		if f, err := s.next(); err != nil || f.event != "heartbeat" {
			return f, err
		}
	}
}

func (s *stream) close() { _ = s.conn.Close() }

// mustOpen is open for a test that cannot go on without, and closes the stream at its end.
func mustOpen(t testing.TB, addr, consumer string, cursor int64) *stream {
	t.Helper()
	s, err := open(addr, consumer, cursor)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// want checks the ids of the next events of a stream.
func (s *stream) want(t testing.TB, ids ...int64) {
	t.Helper()
	for i, id := range ids {
		f, err := s.nextEvent()
		if err != nil || f.id != id {
			t.Fatalf("event %d of %d: want id %d, got %+v (%v)", i+1, len(ids), id, f, err)
		}
	}
}
