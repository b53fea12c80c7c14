package gateway_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"reflect"
	"testing"

	"github.com/event-piper/event-piper/functions/gateway"
)

// FuzzRESTEvent has a REST API's event made a request, or refused: what the client asked for comes through as it is.
func FuzzRESTEvent(f *testing.F) {
	f.Add([]byte(restEvent))
	f.Add([]byte(`{"version":"2.0","rawPath":"/dev/a%2Fb","requestContext":{"stage":"dev","http":{"method":"GET"}}}`))
	f.Add([]byte(`{"httpMethod":"GET","path":"%","multiValueHeaders":{"\r\n":["\u0000"],"x":[]},"multiValueQueryStringParameters":{"":[]}}`))
	f.Add([]byte(`{"httpMethod":"GET","body":"*","isBase64Encoded":true}`))
	f.Add([]byte(`[1]`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var got *http.Request
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r })
		response, err := gateway.Stream(h, routes, slog.New(slog.DiscardHandler))(t.Context(), json.RawMessage(payload))
		if err != nil {
			return
		}
		if err := response.Close(); err != nil {
			t.Errorf("end the answer: %v", err)
		}
		if got == nil {
			t.Fatal("nobody was asked")
		}
		var asked struct {
			Version, HTTPMethod             string
			MultiValueQueryStringParameters map[string][]string
			RequestContext                  struct{ RequestID string }
		}
		if err := json.Unmarshal(payload, &asked); err != nil || asked.Version == "2.0" {
			return
		}
		if got.Method != asked.HTTPMethod {
			t.Errorf("got method %q, want %q", got.Method, asked.HTTPMethod)
		}
		for name, values := range asked.MultiValueQueryStringParameters {
			if len(values) > 0 && !reflect.DeepEqual(got.URL.Query()[name], values) {
				t.Errorf("parameter %q is %q, want %q", name, got.URL.Query()[name], values)
			}
		}
		if id := got.Header.Get(gateway.RequestIDHeader); id != asked.RequestContext.RequestID {
			t.Errorf("got request id %q, want the API's %q", id, asked.RequestContext.RequestID)
		}
	})
}
