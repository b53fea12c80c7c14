//go:build unix

package gatewaytest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// newEvent returns the JSON of the event an HTTP API makes of a request: header names in lower case,
// repeated headers and query parameters joined with commas, cookies apart, the path unescaped and with its
// stage.
func newEvent(r *http.Request, stage, id string) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxPayload))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if stage == "" {
		stage = "$default"
	}
	ip, port, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return nil, fmt.Errorf("read the client's address: %w", err)
	}
	host, _, _ := strings.Cut(r.Host, ":")
	prefix, _, _ := strings.Cut(host, ".")
	now := time.Now().UTC()
	e := events.APIGatewayV2HTTPRequest{
		Version:               "2.0",
		RouteKey:              "$default",
		RawPath:               r.URL.Path,
		RawQueryString:        r.URL.RawQuery,
		Headers:               map[string]string{"host": r.Host},
		QueryStringParameters: map[string]string{},
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey:     "$default",
			AccountID:    "123456789012",
			Stage:        stage,
			RequestID:    id,
			APIID:        "local",
			DomainName:   host,
			DomainPrefix: prefix,
			Time:         now.Format("02/Jan/2006:15:04:05 -0700"),
			TimeEpoch:    now.UnixMilli(),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method:    r.Method,
				Path:      r.URL.Path,
				Protocol:  r.Proto,
				SourceIP:  ip,
				UserAgent: r.UserAgent(),
			},
		},
	}
	for _, line := range r.Header["Cookie"] {
		for cookie := range strings.SplitSeq(line, ";") {
			e.Cookies = append(e.Cookies, strings.TrimSpace(cookie))
		}
	}
	for name, values := range r.Header {
		switch name {
		case "Cookie", "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		default:
			e.Headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	if via := e.Headers["x-forwarded-for"]; via != "" {
		ip = via + ", " + ip
	}
	e.Headers["x-forwarded-for"] = ip
	e.Headers["x-forwarded-port"] = port
	e.Headers["x-forwarded-proto"] = "http"
	e.Headers["x-amzn-trace-id"] = "Root=1-" + id
	for name, values := range r.URL.Query() {
		e.QueryStringParameters[name] = strings.Join(values, ",")
	}
	if e.Body = string(body); !isText(r.Header.Get("Content-Type"), body) {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return json.Marshal(e)
}

func isText(contentType string, body []byte) bool {
	if len(body) == 0 {
		return true
	}
	t, _, _ := mime.ParseMediaType(contentType)
	return utf8.Valid(body) && (t == "application/json" || strings.HasPrefix(t, "text/"))
}

// writeAnswer answers with what the function returned. It fails, before it wrote anything, for what an HTTP
// API cannot make a response of.
func writeAnswer(w http.ResponseWriter, payload []byte) error {
	var a events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal(payload, &a); err != nil {
		return fmt.Errorf("read the function's answer: %w", err)
	}
	if a.StatusCode < 200 || a.StatusCode > 599 {
		return fmt.Errorf("the function's answer has status %d", a.StatusCode)
	}
	body := []byte(a.Body)
	if a.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(a.Body); err != nil {
			return fmt.Errorf("decode the answer's body: %w", err)
		}
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	for name, value := range a.Headers {
		h.Set(name, value)
	}
	for _, cookie := range a.Cookies {
		h.Add("Set-Cookie", cookie)
	}
	w.WriteHeader(a.StatusCode)
	_, _ = w.Write(body) // the client is gone when this fails
	return nil
}

// refuse answers for the gateway itself. It speaks neither for the function nor in its format.
func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"message":%q}`, http.StatusText(status))
}
