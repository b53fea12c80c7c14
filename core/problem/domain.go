package problem

import (
	"errors"
	"net/http"

	"github.com/event-piper/event-piper/core"
)

// details tell what to do about a cursor that cannot be continued.
var details = map[core.Reason]string{
	core.Pruned:    "events after this cursor have been deleted: go on from oldest, and fetch again what they told",
	core.Oversized: "the event oldest is larger than what is delivered: go on from oldest, its id, and fetch elsewhere what it told",
	core.Ahead:     "the cursor is beyond the newest event, as after a restore: go on from newest, and fetch again what may have changed",
}

// statuses are the answers to errors that may be wrapped in others, whose words are not public.
var statuses = []struct {
	err    error
	status int
}{
	{core.ErrNotGranted, http.StatusForbidden},
	{core.ErrTooManyTopics, http.StatusUnprocessableEntity},
	{core.ErrTooManySessionsOfConsumer, http.StatusTooManyRequests},
	{core.ErrBufferFullOfConsumer, http.StatusTooManyRequests},
	{core.ErrTooManySessions, http.StatusServiceUnavailable},
	{core.ErrBufferFull, http.StatusServiceUnavailable},
	{core.ErrStopping, http.StatusServiceUnavailable},
	{core.ErrUnavailable, http.StatusServiceUnavailable},
}

// Of maps an error of the domain to what a client may know of it, for streams and polls alike. It is nil for any other
// error, which is for the log.
func Of(err error) *Problem {
	if reset, ok := errors.AsType[*core.ResetError](err); ok {
		p := New(http.StatusGone, details[reset.Reason])
		p.Reason, p.Oldest, p.Newest = string(reset.Reason), &reset.Oldest, &reset.Newest
		return p
	}
	for _, s := range statuses {
		switch {
		case !errors.Is(err, s.err):
		case s.status == http.StatusTooManyRequests, s.status == http.StatusServiceUnavailable:
			return RetryLater(s.status, s.err.Error())
		default:
			return New(s.status, s.err.Error())
		}
	}
	return nil
}
