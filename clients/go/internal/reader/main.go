// Command reader is the reader of the fault test (clients/faults): it prints what the package hands out, a line of
// JSON each. It starts at the moment it is started.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	eventpiper "github.com/event-piper/event-piper/clients/go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	out := json.NewEncoder(os.Stdout)
	started := false
	s := eventpiper.Subscription{
		URL:    os.Getenv("EVENT_PIPER_URL"),
		Cursor: eventpiper.FromNow,
		Header: func(context.Context) (http.Header, error) {
			return http.Header{"X-Reader": {os.Getenv("READER")}}, nil
		},
		Save: func(_ context.Context, cursor int64) error {
			if started {
				return nil
			}
			started = true
			return out.Encode(map[string]any{"start": cursor})
		},
		OnReset: func(_ context.Context, r *eventpiper.Reset) error { return out.Encode(map[string]any{"reset": r}) },
		OnError: func(_ context.Context, err error) error {
			_, _ = fmt.Fprintln(os.Stderr, err)
			return nil
		},
		Patience: 1500 * time.Millisecond,
		Silence:  2 * time.Second,
	}
	err := s.Run(ctx, func(_ context.Context, e eventpiper.Event) error {
		var payload struct{ Token string }
		if err := json.Unmarshal(e.Payload, &payload); err != nil {
			return err
		}
		return out.Encode(map[string]any{"id": e.ID, "type": e.Type, "token": payload.Token})
	})
	if !errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
