package tail

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/event-piper/event-piper/core"
)

// TestACutLosesNothing has each connection cut in another place, and looks at what is printed and asked for.
func TestACutLosesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := []string{
		"id: 5\nevent: heartbeat\ndata: thump\nretry: 1\n\nevent: insert\ndata: {\"n\":6}\nid: 6\n\nevent: insert\ndata: {\"n\":7}\nid: 7\n",
		": comment\nevent: insert\ndata: {\"n\":7}\nid: 7\n\nid: 9\nevent: heartbeat\ndata: thump\n\nevent: ins",
		"503",
		"event: reset\ndata: {\"reason\":\"pruned\"}\nid: 12\n\n",
	}
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Last-Event-ID")+" "+r.Header.Get("X-Consumer-Id")+" "+r.URL.RawQuery)
		n := len(asked) - 1
		switch {
		case n >= len(answers):
			w.WriteHeader(http.StatusNotFound)
		case answers[n] == "503":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, answers[n])
		}
	}))
	defer s.Close()
	var out, notes strings.Builder
	err := Run(ctx, Config{URL: s.URL + "/", Consumer: "toto", After: "5", Types: []string{"insert"}}, &out, &notes)
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("want an answer that waiting does not change to end it, got %v", err)
	}
	if want := "6\tinsert\t{\"n\":6}\n7\tinsert\t{\"n\":7}\n12\treset\t{\"reason\":\"pruned\"}\n"; out.String() != want {
		t.Errorf("want every event once:\n%sgot:\n%s", want, out.String())
	}
	if got, want := fmt.Sprint(asked), "[5 toto types=insert 6 toto types=insert 9 toto types=insert 9 toto types=insert 12 toto types=insert]"; got != want {
		t.Errorf("want the cursor of what was printed:\n%s\ngot:\n%s", want, got)
	}
	if n := strings.Count(notes.String(), "disconnected"); n != 4 {
		t.Errorf("want each cut told, got %q", notes.String())
	}
}

// outages answers polls by what is in the list, one after the other.
type outages struct {
	answers []any // a core.Batch or an error
	asked   []int64
	end     func()
}

func (o *outages) Poll(_ context.Context, p core.Poll) (core.Batch, error) {
	o.asked = append(o.asked, p.After)
	if len(o.answers) == 0 {
		o.end()
		return core.Batch{}, context.Canceled
	}
	answer := o.answers[0]
	o.answers = o.answers[1:]
	if err, failed := answer.(error); failed {
		return core.Batch{}, err
	}
	return answer.(core.Batch), nil
}

// TestAnOutageOfTheDatabaseLosesNothing begins from now on, which must be the same place after an outage.
func TestAnOutageOfTheDatabaseLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o := &outages{end: cancel, answers: []any{
			core.ErrUnavailable,
			core.Batch{Cursor: 5},
			core.ErrUnavailable,
			core.Batch{Cursor: 9, Events: []*core.Event{{ID: 6, Type: "insert", Payload: []byte("{}")}}},
			&core.ResetError{Reason: core.Pruned, Oldest: 12, Newest: 20},
		}}
		var out, notes strings.Builder
		if err := Run(ctx, Config{Poller: o, Consumer: "toto"}, &out, &notes); err != nil {
			t.Error(err)
		}
		if want := "6\tinsert\t{}\n12\treset\t{\"reason\":\"pruned\",\"oldest\":12,\"newest\":20}\n"; out.String() != want {
			t.Errorf("want\n%sgot\n%s", want, out.String())
		}
		if got, want := fmt.Sprint(o.asked), "[-1 -1 5 5 9 12]"; got != want {
			t.Errorf("want polls after %s, got %s", want, got)
		}
		if n := strings.Count(notes.String(), "disconnected"); n != 2 {
			t.Errorf("want each outage told, got %q", notes.String())
		}
	})
}
