package web

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// linesPerSecond is how many lines that say the same are logged; three times as many may come at once.
	linesPerSecond = 100
	// maxKinds bounds the kinds of lines that are told apart, in each of two generations.
	maxKinds = 1_000
)

// limitLines returns a handler that leaves out lines like those before them when they come too fast: whoever
// makes requests in a loop would fill the disk. How many it left out is the attribute left_out of a later line.
// Requests that were answered well all leave a line, unless their clients gave the answer up.
func limitLines(h slog.Handler) slog.Handler {
	return lines{h, &seen{young: map[kind]*rate.Limiter{}}}
}

// kind is what lines have in common that say the same.
type kind struct {
	message, consumer, client string
	status                    int64
	abandoned                 bool
}

// served reports that a request was answered, so that it cost its client something, too.
func (k kind) served(bytes int64) bool {
	return k.status != 0 && k.status < 400 && bytes > 0 && !k.abandoned
}

type lines struct {
	slog.Handler
	seen *seen
}

// WithAttrs and WithGroup implement slog.Handler.
func (l lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lines{l.Handler.WithAttrs(attrs), l.seen}
}
func (l lines) WithGroup(name string) slog.Handler { return lines{l.Handler.WithGroup(name), l.seen} }

// seen is what was logged of late.
type seen struct {
	mu         sync.Mutex
	young, old map[kind]*rate.Limiter // guarded by mu
	leftOut    int64                  // guarded by mu
}

// Handle implements slog.Handler.
func (l lines) Handle(ctx context.Context, r slog.Record) error {
	k, bytes := kindOf(r)
	if k.served(bytes) {
		return l.Handler.Handle(ctx, r)
	}
	leftOut, ok := l.seen.allow(k, r.Time)
	if !ok {
		return nil
	}
	if leftOut > 0 {
		r.AddAttrs(slog.Int64("left_out", leftOut))
	}
	return l.Handler.Handle(ctx, r)
}

func kindOf(r slog.Record) (k kind, bytes int64) {
	k.message = r.Message
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "consumer":
			k.consumer = a.Value.String()
		case "remote":
			k.client, _, _ = net.SplitHostPort(a.Value.String()) // empty if it is no address
		case "status":
			k.status = a.Value.Int64()
		case "abandoned":
			k.abandoned = a.Value.Bool()
		case "bytes":
			bytes = a.Value.Int64()
		}
		return true
	})
	return k, bytes
}

// allow counts a line, and returns how many have been left out since the last one that was not.
func (l *seen) allow(k kind, now time.Time) (leftOut int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.young[k]
	if limiter == nil {
		if limiter = l.old[k]; limiter == nil {
			limiter = rate.NewLimiter(linesPerSecond, 3*linesPerSecond)
		}
		if len(l.young) >= maxKinds {
			l.old, l.young = l.young, map[kind]*rate.Limiter{}
		}
		l.young[k] = limiter
	}
	if !limiter.AllowN(now, 1) {
		l.leftOut++
		return 0, false
	}
	leftOut, l.leftOut = l.leftOut, 0
	return leftOut, true
}
