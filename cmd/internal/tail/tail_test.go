package tail

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
	err := Run(ctx, Config{URL: s.URL + "/", Consumer: "toto", After: "5", Types: "insert"}, &out, &notes)
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
