package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/event-piper/event-piper/chaos/check"
)

func (r *reader) stream(ctx context.Context, t *target) (*check.Session, error) {
	return r.streamOver(ctx, t, r.h1)
}

func (r *reader) streamH2C(ctx context.Context, t *target) (*check.Session, error) {
	return r.streamOver(ctx, t, r.h2)
}

func (r *reader) streamOver(ctx context.Context, t *target, client *http.Client) (*check.Session, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dog := watch(cancel)
	defer dog.stop()
	q, err := r.request(ctx, t.base+"/events")
	if err != nil {
		return nil, err
	}
	response, err := client.Do(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	return r.frames(response, dog)
}

// streamHalfClosed ends its sending side once it has asked, as some clients and proxies do.
func (r *reader) streamHalfClosed(ctx context.Context, t *target) (*check.Session, error) {
	u, err := url.Parse(t.base)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	dog := watch(cancel)
	defer dog.stop()
	q, err := r.request(ctx, t.base+"/events")
	if err != nil {
		return nil, err
	}
	if err := q.Write(conn); err != nil {
		return nil, err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	return r.frames(response, dog)
}

// frames reads a stream to its end, or until the reader is done. The error says why it ended.
func (r *reader) frames(response *http.Response, dog *watchdog) (*check.Session, error) {
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	s := &check.Session{Opened: time.Now()}
	in := bufio.NewReaderSize(response.Body, 64<<10)
	var f struct {
		id, event string
		data      []string
	}
	for !r.done() {
		line, err := in.ReadString('\n')
		if err != nil { // what was begun is not dispatched, as WHATWG HTML has it
			return s, err
		}
		dog.pat()
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			name, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch name {
			case "id":
				f.id = value
			case "event":
				f.event = value
			case "data":
				f.data = append(f.data, value)
			}
			continue
		}
		m, err := message(f.id, f.event, strings.Join(f.data, "\n"))
		if err != nil {
			return s, err
		}
		if m != nil {
			r.got(s, *m)
		}
		f.id, f.event, f.data = "", "", f.data[:0]
	}
	return s, io.EOF
}

// message makes one of a frame; nil says that it has none.
func message(id, event, data string) (*check.Message, error) {
	var m check.Message
	var err error
	if id != "" {
		if m.ID, err = strconv.ParseInt(id, 10, 64); err != nil {
			return nil, fmt.Errorf("frame with id %q", id)
		}
	}
	switch event {
	case "", "heartbeat":
		if id == "" {
			return nil, nil //nolint:nilnil // as the comment says
		}
		m.Kind = check.Progress
	case "reset":
		return resetMessage([]byte(data))
	default:
		m.Kind, m.Type = check.Delivery, event
		m.Token, m.Payload = tokenOf([]byte(data)), check.SumOf([]byte(data))
	}
	return &m, nil
}

// resetMessage reads what a frame or a problem says of a cursor that cannot be continued.
func resetMessage(data []byte) (*check.Message, error) {
	var said struct {
		Reason         string
		Oldest, Newest int64
	}
	if err := json.Unmarshal(data, &said); err != nil {
		return nil, fmt.Errorf("reset with %q: %w", data, err)
	}
	m := &check.Message{Kind: check.Reset, Reason: said.Reason, Oldest: said.Oldest, Newest: said.Newest, ID: said.Newest}
	if said.Reason == "pruned" {
		m.ID = said.Oldest
	}
	return m, nil
}
