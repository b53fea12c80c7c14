package postgresql

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAnswerIsGivenUpAfterASilenceAndNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const silence = 5 * time.Second
		var last atomic.Int64
		heard := func() time.Time { return time.Unix(0, last.Load()) }
		for seconds := range 120 { // a long transfer
			err := attend(t.Context(), heard, silence, func(ctx context.Context) error {
				for range seconds {
					time.Sleep(time.Second)
					last.Store(time.Now().UnixNano())
				}
				return ctx.Err()
			})
			if err != nil {
				t.Fatalf("an answer that came over %d seconds: %v", seconds, err)
			}
		}
		for seconds := range 10 { // one that stops
			var stopped time.Time
			err := attend(t.Context(), heard, silence, func(ctx context.Context) error {
				for range seconds {
					time.Sleep(time.Second)
					last.Store(time.Now().UnixNano())
				}
				stopped = time.Now()
				<-ctx.Done()
				return ctx.Err()
			})
			if took := time.Since(stopped); !errors.Is(err, errSilent) || took != silence {
				t.Errorf("after %d seconds of an answer, and then silence: %v after %v, want %v after %v", seconds, err, took, errSilent, silence)
			}
		}
	})
}
