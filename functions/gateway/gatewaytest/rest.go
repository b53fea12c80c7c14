//go:build unix

package gatewaytest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

// newRESTEvent returns the JSON of the event a REST API makes of a request without a body: the path without its
// stage, parameters decoded, every value of what is repeated, and no version.
func newRESTEvent(r *http.Request, stage, id string) ([]byte, error) {
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return nil, fmt.Errorf("read the client's address: %w", err)
	}
	path := r.URL.Path
	if stage != "" {
		path = strings.TrimPrefix(path, "/"+stage)
	}
	e := events.APIGatewayProxyRequest{
		Resource: path, Path: path, HTTPMethod: r.Method,
		MultiValueHeaders:               map[string][]string{"Host": {r.Host}},
		MultiValueQueryStringParameters: r.URL.Query(),
	}
	for name, values := range r.Header {
		e.MultiValueHeaders[name] = values
	}
	e.RequestContext.Stage, e.RequestContext.RequestID, e.RequestContext.HTTPMethod = stage, id, r.Method
	e.RequestContext.Protocol, e.RequestContext.Identity.SourceIP = r.Proto, ip
	return json.Marshal(e)
}

// writeStream answers with what a function streams. It reports whether the answer has begun, which a prelude that cannot
// be read keeps it from.
func writeStream(w http.ResponseWriter, prelude []byte, body io.Reader) (begun bool) {
	var p struct {
		StatusCode        int
		Headers           map[string]string
		MultiValueHeaders map[string][]string
		Cookies           []string
	}
	if err := json.Unmarshal(prelude, &p); err != nil || p.StatusCode < 200 || p.StatusCode > 599 {
		return false
	}
	for name, value := range p.Headers {
		w.Header().Set(name, value)
	}
	for name, values := range p.MultiValueHeaders {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	for _, cookie := range p.Cookies {
		w.Header().Add("Set-Cookie", cookie)
	}
	w.WriteHeader(p.StatusCode)
	control := http.NewResponseController(w)
	for buffer := make([]byte, 32<<10); ; {
		_ = control.Flush() // the client is gone when this fails
		n, err := body.Read(buffer)
		if n > 0 {
			_, _ = w.Write(buffer[:n]) // the same
		}
		if err != nil {
			return true
		}
	}
}
