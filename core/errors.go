package core

import (
	"errors"
	"fmt"
	"strconv"
)

var (
	// ErrUnavailable reports that the store cannot be read right now; trying again later may work.
	ErrUnavailable = errors.New("events cannot be read right now")
	// ErrTooManySessions reports that this instance holds as many sessions as it may.
	ErrTooManySessions = errors.New("too many sessions")
	// ErrStopping reports that the service begins nothing new, because it is shutting down.
	ErrStopping = errors.New("the service is shutting down")
	// ErrEnded reports that an operator ended the session.
	ErrEnded = errors.New("the session was ended")
	// ErrUnreadable reports that what was asked for cannot be read because of what it is, such as a damaged row,
	// while anything else can be.
	ErrUnreadable = errors.New("an event cannot be read")
	// ErrReplaced reports that the table is not the one that was read before, or has lost some of it.
	ErrReplaced = errors.New("the database was replaced by one that has lost events")
	// ErrTooManySessionsOfConsumer reports that the consumer holds as many sessions as it may.
	ErrTooManySessionsOfConsumer = errors.New("too many sessions of this consumer")
)

// Reason says why a cursor cannot be continued.
type Reason string

const (
	// Pruned says that retention has deleted events of this consumer above the cursor.
	Pruned Reason = "pruned"
	// Ahead says that the cursor is beyond the newest position, as after a restore from a backup.
	Ahead Reason = "ahead"
	// Oversized says that the next event is larger than what is delivered; reading goes on after it.
	Oversized Reason = "oversized"
)

// ResetError reports a cursor whose continuation is not what the reader expects, so that it must decide
// what to fetch again.
type ResetError struct {
	Reason Reason
	// Oldest is the cursor from which nothing of this consumer was deleted, or the id of the oversized event.
	Oldest int64
	// Newest is the newest position: the cursor of a reader that has seen everything.
	Newest int64
}

func (e *ResetError) Error() string {
	return fmt.Sprintf("cursor is %s: kept is what follows %d, newest is %d", e.Reason, e.Oldest, e.Newest)
}

// Resume is the cursor to go on from.
func (e *ResetError) Resume() int64 {
	if e.Reason == Ahead {
		return e.Newest
	}
	return e.Oldest
}

// AppendJSON appends what streams tell of a reset.
func (e *ResetError) AppendJSON(b []byte) []byte {
	b = append(b, `{"reason":"`...)
	b = append(b, e.Reason...)
	b = append(b, `","oldest":`...)
	b = strconv.AppendInt(b, e.Oldest, 10)
	b = append(b, `,"newest":`...)
	b = strconv.AppendInt(b, e.Newest, 10)
	return append(b, '}')
}
