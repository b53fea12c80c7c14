package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/event-piper/event-piper/chaos/check"
)

// poll asks once. An answer is a session.
func (r *reader) poll(ctx context.Context, t *target) (*check.Session, error) {
	wait := r.random.IntN(4)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(wait)*time.Second+patience)
	defer cancel()
	limit := []int{1, 10, 100, 1000}[r.random.IntN(4)]
	url := fmt.Sprintf("%s/events/poll?wait=%d&limit=%d", t.base, wait, limit)
	if r.cursor != check.FromNow {
		url += fmt.Sprint("&after=", r.cursor)
	}
	q, err := r.request(ctx, url)
	if err != nil {
		return nil, err
	}
	response, err := r.h1.Do(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err // a client cannot use half an answer
	}
	s := &check.Session{Opened: time.Now()}
	switch response.StatusCode {
	case http.StatusGone:
		m, err := resetMessage(body)
		if err != nil {
			return nil, err
		}
		r.got(s, *m)
		return s, nil
	case http.StatusOK:
	default:
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	var batch struct {
		Events []struct {
			ID      int64
			Type    string
			Payload json.RawMessage
		}
		Cursor int64
	}
	if err := json.Unmarshal(body, &batch); err != nil {
		return nil, fmt.Errorf("answer %q: %w", body, err)
	}
	for _, e := range batch.Events {
		r.got(s, check.Message{Kind: check.Delivery, ID: e.ID, Type: e.Type, Token: tokenOf(e.Payload), Payload: check.SumOf(e.Payload)})
	}
	r.got(s, check.Message{Kind: check.Progress, ID: batch.Cursor})
	return s, nil
}
