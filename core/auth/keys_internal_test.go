package auth

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// source is a key set whose loads can be counted, replaced and held up.
type source struct {
	loads int
	ids   []string // nil: loading fails
	hold  chan struct{}
}

func (s *source) load(ctx context.Context) ([]byte, error) {
	s.loads++
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.ids == nil {
		return nil, errors.New("down")
	}
	set := `{"keys":[`
	for i, id := range s.ids {
		if i > 0 {
			set += ","
		}
		x := base64.RawURLEncoding.EncodeToString(make([]byte, ed25519.PublicKeySize))
		set += fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, id, x)
	}
	return []byte(set + "]}"), nil
}

func find(ctx context.Context, s *keySet, id string) string {
	_, err := s.find(ctx, id, jwt.SigningMethodEdDSA.Alg())
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return "found"
}

func TestKeySetOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{ids: []string{"a"}}
		s := newKeySet(src.load, slog.New(slog.DiscardHandler))
		for i, step := range []struct {
			after time.Duration
			ids   []string
			find  string
			want  string
			loads int
			why   string
		}{
			{0, []string{"a"}, "a", "found", 1, "the first request loads"},
			{refreshAfter - 1, []string{"a"}, "a", "found", 1, "a young set is believed"},
			{1, []string{"b"}, "a", "key", 2, "a withdrawn key ends when the set is old"},
			{0, []string{"b"}, "b", "found", 2, "the new one is there"},
			{1, []string{"b"}, "made up", "key", 3, "an unknown key loads"},
			{1, []string{"b", "c"}, "c", "found", 4, "and does not hide one that is published after it"},
			{refreshAfter, nil, "c", "found", 5, "an outage keeps what is known"},
			{1, nil, "c", "found", 5, "and does not load for every request"},
			{1, nil, "d", "unavailable", 5, "an unknown key may be a good one"},
			{reloadEvery, []string{"d"}, "c", "key", 6, "the outage is over"},
			{1, []string{"d"}, "e", "key", 7, "made-up keys"},
			{1, []string{"d"}, "f", "key", 8, "load for a while"},
			{1, []string{"d"}, "g", "key", 9, "each"},
			{1, []string{"d"}, "h", "key", 10, "time"},
			{1, []string{"d"}, "i", "key", 11, "but not for ever"},
			{1, []string{"d", "j"}, "j", "key", 11, "so that nobody knows, which is told by status 503"},
			{1, []string{"d", "j"}, "d", "found", 11, "known ones are good all the time"},
			{reloadEvery, []string{"d", "j"}, "j", "found", 12, "and a new one after a while"},
		} {
			time.Sleep(step.after)
			src.ids = step.ids
			if got := find(t.Context(), s, step.find); got != step.want || src.loads != step.loads {
				t.Errorf("step %d, %s: got %s after %d loads, want %s after %d",
					i+1, step.why, got, src.loads, step.want, step.loads)
			}
		}
	})
}

func TestRequestsForANewKeyShareOneLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{ids: []string{"a"}, hold: make(chan struct{})}
		s := newKeySet(src.load, slog.New(slog.DiscardHandler))
		// The client of the first request, which loads, goes away; that of the second, which waits, too.
		gone, leave := context.WithCancel(t.Context())
		results := make([]string, 4)
		var wg sync.WaitGroup
		for i := range results {
			ctx := t.Context()
			if i < 2 {
				ctx = gone
			}
			wg.Go(func() { results[i] = find(ctx, s, "a") })
			synctest.Wait()
		}
		leave()
		synctest.Wait()
		if results[1] != "unavailable" {
			t.Errorf("a waiting request whose client is gone: got %q, want it to end at once", results[1])
		}
		close(src.hold)
		wg.Wait()
		for _, i := range []int{0, 2, 3} {
			if results[i] != "found" {
				t.Errorf("request %d: got %s, want the key found", i+1, results[i])
			}
		}
		if src.loads != 1 {
			t.Errorf("loads: got %d, want 1", src.loads)
		}
	})
}

func TestASourceThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{ids: []string{"a"}, hold: make(chan struct{})}
		s := newKeySet(src.load, slog.New(slog.DiscardHandler))
		start := time.Now()
		if got := find(t.Context(), s, "a"); got != "unavailable" || time.Since(start) != loadTimeout {
			t.Errorf("got %s after %v, want unavailable after %v", got, time.Since(start), loadTimeout)
		}
	})
}

func TestOldKeysServeWhileTheyAreLoadedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{ids: []string{"a"}}
		s := newKeySet(src.load, slog.New(slog.DiscardHandler))
		find(t.Context(), s, "a")
		time.Sleep(refreshAfter)
		src.hold = make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { find(t.Context(), s, "a") })
		synctest.Wait()
		if got := find(t.Context(), s, "a"); got != "found" {
			t.Errorf("while another request loads: got %s, want the old key found", got)
		}
		close(src.hold)
		wg.Wait()
	})
}
