package web

import (
	"context"

	"github.com/event-piper/event-piper/core"
)

// CountEvents returns a poller that notes for the access log how many events p answers with.
func CountEvents(p core.Poller) core.Poller { return countingPoller{p} }

type countingPoller struct{ core.Poller }

func (p countingPoller) Poll(ctx context.Context, poll core.Poll) (core.Batch, error) {
	batch, err := p.Poller.Poll(ctx, poll)
	AccessFrom(ctx).Events += int64(len(batch.Events))
	return batch, err
}
