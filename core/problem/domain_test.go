package problem

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core"
)

func TestOf(t *testing.T) {
	for _, s := range statuses {
		p := Of(fmt.Errorf("connect to the secret host: %w", s.err))
		if p == nil || p.Status != s.status || p.Detail != s.err.Error() {
			t.Errorf("%v: got %+v, want status %d and nothing of what wraps it", s.err, p, s.status)
			continue
		}
		if later := s.status == 429 || s.status == 503; later != (p.RetryAfter > 0) {
			t.Errorf("%v: RetryAfter is %v, want one for 429 and 503 alone", s.err, p.RetryAfter)
		}
	}
	for reason, detail := range details {
		p := Of(fmt.Errorf("take: %w", &core.ResetError{Reason: reason, Oldest: 40, Newest: 60}))
		if p == nil || p.Status != 410 || p.Reason != string(reason) || *p.Oldest != 40 || *p.Newest != 60 || !strings.Contains(p.Detail, detail) {
			t.Errorf("%s: got %+v, want 410 with what to do", reason, p)
		}
	}
	if p := Of(errors.New("anything else")); p != nil {
		t.Errorf("got %+v, want nothing for an error that is not the domain's", p)
	}
}
