package gateway

import (
	"encoding/base64"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// Lambda refuses an answer of more than 6 MB, counted after it was encoded as JSON. Text can double there,
// as every quote is escaped; base64 always grows by a third.
const (
	maxText = 3_000_000
	maxBody = 4_400_000
)

// response keeps what a handler answers, by the rules of net/http: headers count until the status is
// written, the first status stays, and HEAD, 204 and 304 have no body.
type response struct {
	method string
	header http.Header

	status int
	sent   http.Header // the headers when the status was written
	body   []byte
}

func newResponse(method string) *response {
	return &response{method: method, header: make(http.Header)}
}

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(status int) {
	if w.status != 0 || status < 200 { // informational ones cannot be passed on
		return
	}
	w.status = status
	w.sent = w.header.Clone()
}

func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.status == http.StatusNoContent || w.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

// event returns the response in payload format 2.0.
func (w *response) event() events.APIGatewayV2HTTPResponse {
	w.WriteHeader(http.StatusOK)
	if w.sent.Get("Content-Type") == "" && len(w.body) > 0 {
		w.sent.Set("Content-Type", http.DetectContentType(w.body))
	}
	e := events.APIGatewayV2HTTPResponse{
		StatusCode: w.status,
		Headers:    make(map[string]string, len(w.sent)),
		Cookies:    w.sent["Set-Cookie"], // the one header that must not be joined (RFC 9110, section 5.3)
	}
	for name, values := range w.sent {
		if name != "Set-Cookie" && len(values) > 0 {
			e.Headers[name] = strings.Join(values, ", ")
		}
	}
	switch {
	case w.method == http.MethodHead || len(w.body) == 0:
	case len(w.body) <= maxText && textual(w.sent.Get("Content-Type")) && utf8.Valid(w.body):
		e.Body = string(w.body)
	default:
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(w.body), true
	}
	return e
}

// textual reports whether a media type is one of text, which a person can read in a log of the function's
// answers. Nothing else hangs on it: base64 is right for every type.
func textual(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch t {
	case "application/json", "application/yaml", "application/xml", "application/javascript", "application/x-www-form-urlencoded":
		return true
	}
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "+json") || strings.HasSuffix(t, "+yaml") || strings.HasSuffix(t, "+xml")
}
