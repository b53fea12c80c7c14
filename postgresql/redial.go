package postgresql

import (
	"context"
	"math/rand/v2"
	"time"
)

// redialPause is how long an attempt to connect is waited for, at most, before there is another beside it: what was sent
// into a fault of the network may be answered long after its end, or never.
const redialPause = 1500 * time.Millisecond

// dialled is how an attempt to connect ended.
type dialled struct {
	conn *listener
	err  error
}

// redial connects. One attempt has all the time there is, for a server that takes long to answer; beside it short ones
// follow one another until one of them succeeds. An error is that of the patient one.
func redial(ctx context.Context, dial func(context.Context) (*listener, error)) (*listener, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patient, short := make(chan dialled, 1), make(chan dialled, 1)
	go func() {
		conn, err := dial(ctx)
		patient <- dialled{conn, err}
	}()
	go func() { short <- dialShortly(ctx, dial) }()
	var first, late dialled
	select {
	case first = <-patient:
		cancel()
		late = <-short
	case first = <-short:
		cancel()
		late = <-patient
	}
	if late.conn != nil {
		late.conn.close()
	}
	return first.conn, first.err
}

// dialShortly makes short attempts until one succeeds or ctx ends. The pause before each, and its time, differ, so that the
// instances of a service do not return in one instant.
func dialShortly(ctx context.Context, dial func(context.Context) (*listener, error)) dialled {
	pause := time.NewTimer(redialPause)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return dialled{err: ctx.Err()}
		}
		long := redialPause - rand.N(redialPause/3)
		pause.Reset(long)
		attempt, cancel := context.WithTimeout(ctx, long)
		conn, err := dial(attempt)
		cancel()
		if err == nil {
			return dialled{conn: conn}
		}
	}
}
