package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/tmaxmax/go-sse"

	"client/api"
)

// cloudEvents reads the same two events with the CloudEvents SDK, from a stream and from a poll. The second amends the first.
func cloudEvents(ctx context.Context, client *api.ClientWithResponses, consumer string) error {
	start, err := poll(ctx, client, api.PollEventsParams{Wait: new(int64(0))})
	if err != nil {
		return err
	}
	if err := insert(consumer, "order.created", exact); err != nil {
		return err
	}
	first, err := poll(ctx, client, api.PollEventsParams{After: &start.Cursor})
	if err != nil {
		return err
	}
	if err := insert(consumer, "order.corrected", "null", strconv.FormatInt(first.Cursor, 10)); err != nil {
		return err
	}
	both, err := poll(ctx, client, api.PollEventsParams{After: &first.Cursor})
	if err != nil {
		return err
	}
	streamed, err := streamCloudEvents(ctx, client, start.Cursor)
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	polled, err := pollCloudEvents(ctx, client, start.Cursor, both.Cursor)
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	for _, got := range [][]event.Event{streamed, polled} {
		if len(got) != 2 {
			return fmt.Errorf("%d events, want 2: %v", len(got), got)
		}
		for i, want := range []struct {
			id         int64
			name, data string
			amends     any
		}{{first.Cursor, "order.created", exact, nil}, {both.Cursor, "order.corrected", "null", strconv.FormatInt(first.Cursor, 10)}} {
			e := got[i]
			if err := e.Validate(); err != nil {
				return err
			}
			if e.ID() != strconv.FormatInt(want.id, 10) || e.Type() != want.name || e.Subject() != consumer || e.Source() != "event-piper" ||
				e.DataContentType() != "application/json" || e.Time().IsZero() || string(e.Data()) != want.data || e.Extensions()["amends"] != want.amends {
				return fmt.Errorf("%v, want %v", e, want)
			}
		}
	}
	return nil
}

func streamCloudEvents(ctx context.Context, client *api.ClientWithResponses, cursor int64) (events []event.Event, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := client.StreamEvents(ctx, &api.StreamEventsParams{After: &cursor, Format: new(api.StreamEventsParamsFormatCloudevents)})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for frame, err := range sse.Read(resp.Body, nil) {
		if err != nil {
			return nil, err
		}
		if frame.Type == "heartbeat" {
			continue
		}
		var e event.Event
		if err := json.Unmarshal([]byte(frame.Data), &e); err != nil {
			return nil, err
		}
		if events = append(events, e); len(events) == 2 {
			return events, nil
		}
	}
	return nil, io.ErrUnexpectedEOF
}

func pollCloudEvents(ctx context.Context, client *api.ClientWithResponses, after, cursor int64) ([]event.Event, error) {
	resp, err := client.PollEvents(ctx, &api.PollEventsParams{After: &after}, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", event.ApplicationCloudEventsBatchJSON)
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.Header.Get("X-Cursor") != strconv.FormatInt(cursor, 10) || resp.Header.Get("X-More") != "false" {
		return nil, fmt.Errorf("headers %v, want X-Cursor %d and X-More false", resp.Header, cursor)
	}
	return cehttp.NewEventsFromHTTPResponse(resp)
}
