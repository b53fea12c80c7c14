package doctor_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/cmd/internal/doctor"
)

const frame = "id: 1\nevent: heartbeat\ndata: thump\n\n"

// TestWhatStandsInTheWayIsNamed puts what proxies do to streams before a service that is well.
func TestWhatStandsInTheWayIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		stream func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		"nothing": {func(w http.ResponseWriter, r *http.Request) {
			for range 3 {
				_, _ = io.WriteString(w, frame)
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		}, ""},
		"an end before the first frame": {func(http.ResponseWriter, *http.Request) {}, "before its first frame"},
		"an idle timeout":               {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, frame) }, "the stream ended after"},
		"compression": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, frame)
		}, "compressed (gzip)"},
		"a refusal": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "502"},
		"no heartbeats": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, frame)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "no heartbeat"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/events" {
					return
				}
				w.Header().Set("Content-Type", "text/event-stream")
				c.stream(w, r)
			}))
			defer s.Close()
			var problems []string
			for _, f := range doctor.Visit(t.Context(), doctor.Config{URL: s.URL, Consumer: "doctor", Watch: 100 * time.Millisecond}) {
				if f.Problem {
					problems = append(problems, f.Text)
				}
			}
			if got := strings.Join(problems, "\n"); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}
