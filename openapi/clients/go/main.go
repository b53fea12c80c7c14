// Command client uses the client that oapi-codegen generates, against a running service. ../run.sh says
// what it finds in its environment.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"

	"github.com/tmaxmax/go-sse"

	"client/api"
)

// exact loses digits in a float64, its last member even in decimal notation, and order in a map.
const exact = `{"z":123456789012345678901234567890,"a":0.1000000000000000055511151231257827,"m":1.50}`

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("polled, filtered and streamed, as CloudEvents, too; numbers exact in json.RawMessage; 401, 410 and 422 typed")
}

func run(ctx context.Context) error {
	consumer := os.Getenv("CONSUMER")
	client, err := as(consumer)
	if err != nil {
		return err
	}
	start, err := poll(ctx, client, api.PollEventsParams{Wait: new(int64(0))})
	if err != nil {
		return err
	}

	inserted := make(chan error, 1)
	go func() { inserted <- insert(consumer, "order.created", exact) }()
	waited, err := poll(ctx, client, api.PollEventsParams{After: &start.Cursor})
	if err := errors.Join(err, <-inserted); err != nil {
		return err
	}
	if len(waited.Events) != 1 || waited.Events[0].Type != "order.created" || waited.Cursor != waited.Events[0].Id {
		return fmt.Errorf("a waiting poll answered %+v, want the one event inserted meanwhile", waited)
	}
	if got := string(waited.Events[0].Payload); got != exact {
		return fmt.Errorf("payload %s, want %s", got, exact)
	}

	for _, name := range []string{"order.noted", "order.paid"} {
		if err := insert(consumer, name, `{}`); err != nil {
			return err
		}
	}
	filtered, err := poll(ctx, client, api.PollEventsParams{After: &waited.Cursor, Types: &[]string{"order.paid", "order.refunded"}})
	if err != nil {
		return err
	}
	if len(filtered.Events) != 1 || filtered.Events[0].Type != "order.paid" {
		return fmt.Errorf("types=order.paid&types=order.refunded answered %+v, want order.paid alone", filtered.Events)
	}

	if err := pages(ctx, client, start.Cursor); err != nil {
		return fmt.Errorf("page by page: %w", err)
	}
	if err := stream(ctx, client, consumer, start.Cursor); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if err := cloudEvents(ctx, client, consumer); err != nil {
		return fmt.Errorf("CloudEvents: %w", err)
	}
	return problems(ctx, client)
}

func pages(ctx context.Context, client *api.ClientWithResponses, cursor int64) error {
	var types []string
	for more := true; more; {
		page, err := poll(ctx, client, api.PollEventsParams{After: &cursor, Limit: new(int64(1))})
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			types = append(types, e.Type)
		}
		cursor, more = page.Cursor, page.More
	}
	return equal(types, "order.created", "order.noted", "order.paid")
}

// stream reads what was missed and then an event inserted while the stream is open.
func stream(ctx context.Context, client *api.ClientWithResponses, consumer string, cursor int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := client.StreamEvents(ctx, &api.StreamEventsParams{After: &cursor})
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	var types []string
	for e, err := range sse.Read(resp.Body, nil) {
		if err != nil {
			return err
		}
		if e.Type == "heartbeat" {
			continue
		}
		if len(types) == 0 && e.Data != exact {
			return fmt.Errorf("data %s, want %s", e.Data, exact)
		}
		types = append(types, e.Type)
		switch len(types) {
		case 3:
			if err := insert(consumer, "order.shipped", `{}`); err != nil {
				return err
			}
		case 4:
			return equal(types, "order.created", "order.noted", "order.paid", "order.shipped")
		}
	}
	return fmt.Errorf("ended after %v", types)
}

func problems(ctx context.Context, client *api.ClientWithResponses) error {
	nobody, err := as("")
	if err != nil {
		return err
	}
	r, err := nobody.PollEventsWithResponse(ctx, &api.PollEventsParams{})
	if err != nil {
		return err
	}
	if p := r.ApplicationproblemJSON401; p == nil || p.Status != http.StatusUnauthorized {
		return fmt.Errorf("without a consumer: %s %s, want a problem with 401", r.Status(), r.Body)
	}

	if r, err = client.PollEventsWithResponse(ctx, &api.PollEventsParams{After: new(int64(1 << 48))}); err != nil {
		return err
	}
	if p := r.ApplicationproblemJSON410; p == nil || p.Reason == nil || *p.Reason != api.Ahead || p.Newest == nil {
		return fmt.Errorf("a cursor that is ahead: %s %s, want a problem with 410", r.Status(), r.Body)
	}

	pruned, err := as("pruned")
	if err != nil {
		return err
	}
	if r, err = pruned.PollEventsWithResponse(ctx, &api.PollEventsParams{After: new(int64(0))}); err != nil {
		return err
	}
	p := r.ApplicationproblemJSON410
	if p == nil || p.Reason == nil || *p.Reason != api.Pruned || p.Oldest == nil {
		return fmt.Errorf("a cursor that was pruned: %s %s, want a problem with 410", r.Status(), r.Body)
	}
	rest, err := poll(ctx, pruned, api.PollEventsParams{After: p.Oldest})
	if err != nil {
		return err
	}
	if len(rest.Events) != 1 || rest.Events[0].Type != "kept" {
		return fmt.Errorf("from oldest: %+v, want the event that is kept", rest.Events)
	}

	if r, err = client.PollEventsWithResponse(ctx, &api.PollEventsParams{Wait: new(int64(301))}); err != nil {
		return err
	}
	if p := r.ApplicationproblemJSON422; p == nil || p.Errors == nil || len(*p.Errors) != 1 || (*p.Errors)[0].Location != "query.wait" {
		return fmt.Errorf("wait=301: %s %s, want a problem with 422 that names query.wait", r.Status(), r.Body)
	}
	return nil
}

// as returns a client of this consumer, or of nobody.
func as(consumer string) (*api.ClientWithResponses, error) {
	return api.NewClientWithResponses(os.Getenv("EVENT_PIPER_URL"), api.WithRequestEditorFn(
		func(_ context.Context, r *http.Request) error {
			if consumer != "" {
				r.Header.Set("X-Consumer-Id", consumer)
			}
			return nil
		}))
}

func poll(ctx context.Context, client *api.ClientWithResponses, p api.PollEventsParams) (*api.EventBatch, error) {
	r, err := client.PollEventsWithResponse(ctx, &p)
	if err != nil {
		return nil, err
	}
	if r.JSON200 == nil {
		return nil, fmt.Errorf("poll: %s %s", r.Status(), r.Body)
	}
	return r.JSON200, nil
}

func insert(event ...string) error {
	out, err := exec.Command(os.Getenv("INSERT"), event...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("insert: %w: %s", err, out)
	}
	return nil
}

func equal(types []string, want ...string) error {
	if !slices.Equal(types, want) {
		return fmt.Errorf("got %q, want %q", types, want)
	}
	return nil
}
