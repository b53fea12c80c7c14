package gateway_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/event-piper/event-piper/functions/gateway"
)

const restEvent = `{"httpMethod": "GET", "path": "/events/poll", "requestContext": {"stage": "live", "protocol": "HTTP/1.1",
	"requestId": "id-1", "identity": {"sourceIp": "192.0.2.1"}},
	"multiValueHeaders": {"Host": ["api.example.com"], "Accept": ["a", "b"], "x-request-id": ["the client's"], "Cookie": ["a=1", "b=2"]},
	"multiValueQueryStringParameters": {"types": ["a", "b,c&d"], "after": ["5"]}}`

// stream calls a function that streams what h writes.
func stream(t *testing.T, event string, h http.HandlerFunc) *events.APIGatewayProxyStreamingResponse {
	t.Helper()
	response, err := gateway.Stream(h, routes, slog.New(slog.DiscardHandler))(t.Context(), json.RawMessage(event))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Close() })
	return response
}

func TestStreamUnderstandsARESTAPI(t *testing.T) {
	requests := make(chan *http.Request, 1)
	stream(t, restEvent, func(_ http.ResponseWriter, r *http.Request) { requests <- r })
	r := <-requests
	want := http.Header{"Accept": {"a", "b"}, "X-Request-Id": {"id-1"}, "Cookie": {"a=1; b=2"}}
	if !reflect.DeepEqual(r.Header, want) || r.URL.Path != "/events/poll" || r.Host != "api.example.com" || r.RemoteAddr != "192.0.2.1:0" {
		t.Errorf("got %s %s %s %v, want the client's request", r.Host, r.URL, r.RemoteAddr, r.Header)
	}
	if got := r.URL.Query()["types"]; !reflect.DeepEqual(got, []string{"a", "b,c&d"}) {
		t.Errorf("types are %q, want both as they were", got)
	}
	for _, event := range []string{`{}`, `[]`, `{"version": "1.0"}`} {
		if _, err := gateway.Stream(http.NotFoundHandler(), routes, slog.New(slog.DiscardHandler))(t.Context(), json.RawMessage(event)); err == nil {
			t.Errorf("%s: want an error", event)
		}
	}
}

func TestWhatIsWrittenGoesOutAtOnce(t *testing.T) {
	goOn := make(chan struct{})
	response := stream(t, restEvent, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "first")
		<-goOn
		w.Header().Set("Content-Type", "too late")
		_, _ = io.WriteString(w, "second")
	})
	if response.StatusCode != 200 || response.Headers["Content-Type"] != "text/event-stream" {
		t.Errorf("got %d %v, want 200 and the type", response.StatusCode, response.Headers)
	}
	first := make([]byte, 5)
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "first" {
		t.Errorf("got %q (%v), want what was written first", first, err)
	}
	close(goOn)
	if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "second" {
		t.Errorf("got %q (%v), want the rest", rest, err)
	}
}

func TestAPanicCutsAStreamOff(t *testing.T) {
	response := stream(t, restEvent, func(http.ResponseWriter, *http.Request) { panic("hidden") })
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != 500 || strings.Contains(string(body), "hidden") {
		t.Errorf("before an answer: got %d %s (%v), want a bare 500", response.StatusCode, body, err)
	}
	response = stream(t, restEvent, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		panic("hidden")
	})
	if body, err := io.ReadAll(response.Body); err == nil || string(body) != "half" || strings.Contains(err.Error(), "hidden") {
		t.Errorf("in the midst: got %q (%v), want half, and an error that hides the cause", body, err)
	}
}

func TestAnInvocationEndsWithItsHandler(t *testing.T) {
	returned := make(chan error, 1)
	response := stream(t, restEvent, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		_, err := io.WriteString(w, "nobody reads this")
		returned <- err
	})
	_ = response.Close()
	select {
	case err := <-returned:
		if err == nil {
			t.Error("a write after the end: want an error")
		}
	default:
		t.Error("Close returned before the handler")
	}
}

func TestAWriteThatNobodyTakesMeetsItsDeadline(t *testing.T) {
	failed := make(chan error, 1)
	stream(t, restEvent, func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Millisecond))
		_, err := io.WriteString(w, "nobody reads this")
		failed <- err
	})
	if err := <-failed; !os.IsTimeout(err) {
		t.Errorf("got %v, want a timeout", err)
	}
}
