package tail

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/event-piper/event-piper/core"
)

const (
	// batch is the most events of one poll.
	batch = 1000
	// wait is how long a poll waits for an event.
	wait = 25 * time.Second
)

// poll follows by polls of the database. It returns an error.
func (t *tailer) poll(ctx context.Context) error {
	p := core.Poll{Consumer: t.Consumer, Types: t.Types, Limit: batch, After: core.FromNow}
	format, err := core.ParseFormat(t.Format)
	if err != nil {
		return refusal{err}
	}
	if t.After != "" {
		if p.After, err = core.ParseCursor(t.After); err != nil {
			return refusal{err}
		}
	}
	// The first poll waits for nothing, so that the cursor is known when the second one fails.
	for ; ; p.Wait = wait {
		b, err := t.Poller.Poll(ctx, p)
		reset, isReset := errors.AsType[*core.ResetError](err)
		switch {
		case isReset:
			p.After = reset.Resume()
			err = t.write(strconv.FormatInt(p.After, 10), "reset", string(reset.AppendJSON(nil)))
		case err == nil:
			err = t.writeAll(b.Events, format)
			b.Release()
			p.After = b.Cursor
		}
		if err != nil {
			return err
		}
		t.After = strconv.FormatInt(p.After, 10)
	}
}

// writeAll writes each event as a stream would send it.
func (t *tailer) writeAll(events []*core.Event, f core.Format) error {
	for _, e := range events {
		data := e.Payload
		switch f {
		case core.FormatEvent:
			data = core.AppendEvent(nil, e)
		case core.FormatCloudEvent:
			data = core.AppendCloudEvent(nil, e, t.Source)
		}
		if err := t.write(strconv.FormatInt(e.ID, 10), e.Type, string(data)); err != nil {
			return err
		}
	}
	return nil
}
