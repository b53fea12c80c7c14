package gateway_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/event-piper/event-piper/functions/gateway"
)

// routes are those of the function.
var routes = func() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /events/poll", http.NotFoundHandler())
	mux.Handle("GET /manage/health", http.NotFoundHandler())
	return mux
}()

// ask returns the request a handler sees for an event.
func ask(t testing.TB, e events.APIGatewayV2HTTPRequest) *http.Request {
	t.Helper()
	var seen *http.Request
	invoke := gateway.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r }), routes, slog.New(slog.DiscardHandler))
	if _, err := invoke(t.Context(), e); err != nil {
		t.Fatalf("invoke with %+v: %v", e, err)
	}
	return seen
}

// answer returns what the gateway is told when a handler answers a plain GET.
func answer(t testing.TB, h http.HandlerFunc) events.APIGatewayV2HTTPResponse {
	t.Helper()
	out, err := gateway.Handler(h, routes, slog.New(slog.DiscardHandler))(t.Context(), event("/events/poll"))
	if err != nil {
		t.Fatalf("invoke: %v", err)
	}
	return out
}

func event(path string) events.APIGatewayV2HTTPRequest {
	e := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: path}
	e.RequestContext.Stage = "$default"
	e.RequestContext.HTTP.Method = http.MethodGet
	return e
}

func TestRequestIsTheOneTheClientSent(t *testing.T) {
	e := event("/events/poll")
	e.RawQueryString = "types=a&types=b&types=c%2Cd&after=5"
	e.QueryStringParameters = map[string]string{"types": "a,b,c,d", "after": "5"}
	e.Cookies = []string{"a=1", "b=2"}
	e.Headers = map[string]string{
		"host":          "events.example.com",
		"x-consumer-id": "toto",
		"x-request-id":  "what the client claims",
		"accept":        "application/json,text/html",
		"user-agent":    "agent",
	}
	e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte("\x00body")), true
	e.RequestContext.RequestID = "JKJaXmPLvHcESHA="
	e.RequestContext.DomainName = "id.execute-api.eu-west-1.amazonaws.com"
	e.RequestContext.HTTP.Method = http.MethodPost
	e.RequestContext.HTTP.Protocol = "HTTP/1.1"
	e.RequestContext.HTTP.SourceIP = "2001:db8::1"

	r := ask(t, e)

	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"method", r.Method, "POST"},
		{"path", r.URL.Path, "/events/poll"},
		{"every value of a repeated parameter", r.URL.Query()["types"], []string{"a", "b", "c,d"}},
		{"request URI", r.RequestURI, "/events/poll?types=a&types=b&types=c%2Cd&after=5"},
		{"protocol", r.Proto, "HTTP/1.1"},
		{"host", r.Host, "events.example.com"},
		{"remote address", r.RemoteAddr, "[2001:db8::1]:0"},
		{"body", string(body), "\x00body"},
		{"content length", r.ContentLength, int64(5)},
		{"header", r.Header, http.Header{
			"Accept":        {"application/json,text/html"},
			"Cookie":        {"a=1; b=2"},
			"User-Agent":    {"agent"},
			"X-Consumer-Id": {"toto"},
			"X-Request-Id":  {"JKJaXmPLvHcESHA="},
		}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	if c, err := r.Cookie("b"); err != nil || c.Value != "2" {
		t.Errorf("cookie b: got %v, %v, want 2", c, err)
	}
}

func TestHostFallsBackToTheDomain(t *testing.T) {
	e := event("/")
	e.RequestContext.DomainName = "id.lambda-url.eu-west-1.on.aws"
	if r := ask(t, e); r.Host != e.RequestContext.DomainName {
		t.Errorf("host: got %q, want %q", r.Host, e.RequestContext.DomainName)
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct{ stage, raw, want string }{
		{"$default", "/events/poll", "/events/poll"},
		{"", "/events/poll", "/events/poll"},
		{"$default", "/$default/events", "/$default/events"},
		{"dev", "/dev/events/poll", "/events/poll"},
		{"dev", "/dev", "/"},
		{"dev", "/dev/", "/"},
		{"dev", "/development", "/development"},
		{"dev", "/dev/dev", "/dev"},
		{"dev", "/events/poll", "/events/poll"},           // a custom domain in front of a named stage
		{"events", "/events/events/poll", "/events/poll"}, // a stage that is named like a route
		{"events", "/events/poll", "/events/poll"},        // the same behind a custom domain
		{"events", "/events/manage/health", "/manage/health"},
		{"v1", "/v1/events/poll", "/events/poll"},
		{"$default", "/v1/events/poll", "/v1/events/poll"}, // an API mapping, which BASE_PATH names
		{"dev", "/v1/events/poll", "/v1/events/poll"},
		{"$default", "", "/"},
		{"$default", "events", "/events"},
		{"$default", "/a%20b%2Fc", "/a b/c"},
		{"$default", "/100%", "/100%"},
		{"$default", "/a b?c", "/a b?c"},
		{"$default", "//events", "//events"},
	} {
		e := event(c.raw)
		e.RequestContext.Stage = c.stage
		if r := ask(t, e); r.URL.Path != c.want {
			t.Errorf("path %q in stage %q: got %q, want %q", c.raw, c.stage, r.URL.Path, c.want)
		}
	}
}

func TestDeadlineOfTheFunctionIsTheRequests(t *testing.T) {
	want := time.Now().Add(time.Hour)
	ctx, cancel := context.WithDeadline(t.Context(), want)
	defer cancel()
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got, ok := r.Context().Deadline(); !ok || !got.Equal(want) {
			t.Errorf("deadline: got %v (%v), want %v", got, ok, want)
		}
	})
	if _, err := gateway.Handler(h, routes, slog.New(slog.DiscardHandler))(ctx, event("/")); err != nil {
		t.Fatalf("invoke: %v", err)
	}
}

func TestResponse(t *testing.T) {
	large := strings.Repeat("a", 3_500_000)
	for _, c := range []struct {
		name string
		h    http.HandlerFunc
		want events.APIGatewayV2HTTPResponse
	}{
		{
			"a handler that writes nothing",
			func(http.ResponseWriter, *http.Request) {},
			events.APIGatewayV2HTTPResponse{StatusCode: 200, Headers: map[string]string{}},
		},
		{
			"JSON is text",
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json; charset=utf-8")
				w.WriteHeader(201)
				w.WriteHeader(500)
				w.Header().Set("Too-Late", "yes")
				_, _ = io.WriteString(w, `{"a":`)
				_, _ = io.WriteString(w, `"é"}`)
			},
			events.APIGatewayV2HTTPResponse{
				StatusCode: 201,
				Headers:    map[string]string{"Content-Type": "application/json; charset=utf-8"},
				Body:       `{"a":"é"}`,
			},
		},
		{
			"a problem is text",
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(404)
				_, _ = io.WriteString(w, `{}`)
			},
			events.APIGatewayV2HTTPResponse{
				StatusCode: 404,
				Headers:    map[string]string{"Content-Type": "application/problem+json"},
				Body:       `{}`,
			},
		},
		{
			"a type that is not told is sniffed",
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") },
			events.APIGatewayV2HTTPResponse{
				StatusCode: 200,
				Headers:    map[string]string{"Content-Type": "text/plain; charset=utf-8"},
				Body:       "hello",
			},
		},
		{
			"text that is not UTF-8 travels as bytes",
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain; charset=latin1")
				_, _ = w.Write([]byte("\xe9"))
			},
			events.APIGatewayV2HTTPResponse{
				StatusCode:      200,
				Headers:         map[string]string{"Content-Type": "text/plain; charset=latin1"},
				Body:            "6Q==",
				IsBase64Encoded: true,
			},
		},
		{
			"an image travels as bytes",
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "image/png")
				_, _ = io.WriteString(w, "\x89PNG")
			},
			events.APIGatewayV2HTTPResponse{
				StatusCode:      200,
				Headers:         map[string]string{"Content-Type": "image/png"},
				Body:            "iVBORw==",
				IsBase64Encoded: true,
			},
		},
		{
			"headers are joined, cookies are not",
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Vary"] = []string{"Origin", "Accept"}
				w.Header()["Set-Cookie"] = []string{"a=1; Expires=Thu, 01 Jan 2026 00:00:00 GMT", "b=2"}
				w.WriteHeader(204)
				_, _ = io.WriteString(w, "not allowed")
			},
			events.APIGatewayV2HTTPResponse{
				StatusCode: 204,
				Headers:    map[string]string{"Vary": "Origin, Accept"},
				Cookies:    []string{"a=1; Expires=Thu, 01 Jan 2026 00:00:00 GMT", "b=2"},
			},
		},
		{
			"text that may double when it is escaped travels as bytes",
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, large) },
			events.APIGatewayV2HTTPResponse{
				StatusCode:      200,
				Headers:         map[string]string{"Content-Type": "text/plain; charset=utf-8"},
				Body:            base64.StdEncoding.EncodeToString([]byte(large)),
				IsBase64Encoded: true,
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := answer(t, c.h)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %.300s\nwant %.300s", encode(t, got), encode(t, c.want))
			}
		})
	}
}

func TestHeadHasNoBody(t *testing.T) {
	e := event("/docs")
	e.RequestContext.HTTP.Method = http.MethodHead
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	got, err := gateway.Handler(h, routes, slog.New(slog.DiscardHandler))(t.Context(), e)
	if err != nil || got.Body != "" || !strings.HasPrefix(got.Headers["Content-Type"], "text/html") {
		t.Errorf("got %s, %v, want the headers of an HTML page and no body", encode(t, got), err)
	}
}

func TestPanicSaysNothingToTheClientAndAllToTheLog(t *testing.T) {
	var log bytes.Buffer
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Secret", "half an answer")
		_, _ = io.WriteString(w, "half an answer")
		panic("password=hunter2")
	})
	got, err := gateway.Handler(h, routes, slog.New(slog.NewJSONHandler(&log, nil)))(t.Context(), event("/events/poll"))
	if err != nil {
		t.Fatalf("invoke: %v", err)
	}
	want := events.APIGatewayV2HTTPResponse{
		StatusCode: 500,
		Headers:    map[string]string{"Content-Type": "application/problem+json", "Cache-Control": "no-store"},
		Body:       `{"title":"Internal Server Error","status":500}` + "\n",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", encode(t, got), encode(t, want))
	}
	for _, want := range []string{"password=hunter2", "gateway_test.go", "/events/poll"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log misses %q: %s", want, log.String())
		}
	}
}

func TestAnAnswerBeyondLambdasLimitIsAProblemNotSilence(t *testing.T) {
	got := answer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 5_000_000)) })
	if got.StatusCode != 500 || got.Headers["Content-Type"] != "application/problem+json" || !strings.Contains(got.Body, "ask for less") {
		t.Errorf("got %.300s, want a 500 problem that says to ask for less", encode(t, got))
	}
}

func TestLargestAnswersFitLambdasLimit(t *testing.T) {
	const limit = 6 << 20
	for name, body := range map[string]string{
		"text of quotes": strings.Repeat(`"`, 3_000_000),
		"bytes":          strings.Repeat("a", 4_400_000),
	} {
		got := answer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		if n := len(encode(t, got)); got.StatusCode != 200 || n > limit {
			t.Errorf("%s: got status %d with %d bytes of JSON, want 200 within %d", name, got.StatusCode, n, limit)
		}
	}
}

func TestOtherEventsAreRefused(t *testing.T) {
	notEncoded := event("/")
	notEncoded.Body, notEncoded.IsBase64Encoded = "*", true
	for name, c := range map[string]struct {
		event events.APIGatewayV2HTTPRequest
		want  string
	}{
		"REST API":      {events.APIGatewayV2HTTPRequest{Version: "1.0"}, `payload format "1.0", not 2.0`},
		"direct invoke": {events.APIGatewayV2HTTPRequest{}, `payload format "", not 2.0`},
		"broken body":   {notEncoded, "decode the event's body"},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was asked") })
			_, err := gateway.Handler(h, routes, slog.New(slog.DiscardHandler))(t.Context(), c.event)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one that says %q", err, c.want)
			}
		})
	}
}

// The events that are published as samples ask for what they are meant to ask for.
func TestSampleEvents(t *testing.T) {
	for name, want := range map[string]string{
		"http-api.json":     "toto GET /events/poll?after=5&wait=10&types=order.created&types=order.paid",
		"function-url.json": "toto GET /events/poll?after=0&wait=0&limit=10",
		"named-stage.json":  "toto GET /events/poll?after=5&wait=10",
	} {
		raw, err := os.ReadFile(filepath.Join("..", "poll", "events", name))
		if err != nil {
			t.Fatal(err)
		}
		var e events.APIGatewayV2HTTPRequest
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r := ask(t, e)
		got := r.Header.Get("X-Consumer-Id") + " " + r.Method + " " + r.URL.RequestURI()
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("GET", "/events/poll", "after=5&types=a&types=b", "x-consumer-id", "toto", "$default", "a=1", "", false)
	f.Add("POST", "/dev/a%2Fb", "a=%zz", "Host", "example.com:443", "dev", "", "Ym9keQ==", true)
	f.Add("", "%", "?#\x00", "\x00", "\r\n", "%", ";", "*", true)
	f.Fuzz(func(t *testing.T, method, path, query, name, value, stage, cookie, body string, encoded bool) {
		e := events.APIGatewayV2HTTPRequest{
			Version: "2.0", RawPath: path, RawQueryString: query, Body: body, IsBase64Encoded: encoded,
			Headers: map[string]string{name: value},
		}
		e.RequestContext.Stage = stage
		e.RequestContext.HTTP.Method = method
		if cookie != "" {
			e.Cookies = []string{cookie}
		}
		var r *http.Request
		h := http.HandlerFunc(func(_ http.ResponseWriter, got *http.Request) { r = got })
		if _, err := gateway.Handler(h, routes, slog.New(slog.DiscardHandler))(t.Context(), e); err != nil {
			if !encoded {
				t.Fatalf("an event with a plain body was refused: %v", err)
			}
			return
		}

		if r.Method != method || r.URL.RawQuery != query {
			t.Errorf("got method %q and query %q, want %q and %q", r.Method, r.URL.RawQuery, method, query)
		}
		key := http.CanonicalHeaderKey(name)
		switch key {
		case "Host":
			if value != "" && r.Host != value {
				t.Errorf("host: got %q, want %q", r.Host, value)
			}
		case gateway.RequestIDHeader:
			if got := r.Header.Get(key); got != "" {
				t.Errorf("the client's own request id %q came through", got)
			}
		case "Cookie":
		default:
			if got := r.Header[key]; !reflect.DeepEqual(got, []string{value}) {
				t.Errorf("header %q: got %q, want %q", name, got, value)
			}
		}
		if cookie != "" && r.Header.Get("Cookie") != cookie {
			t.Errorf("cookie: got %q, want %q", r.Header.Get("Cookie"), cookie)
		}

		// What is routed is what was asked for, less the stage, and reads the same when it is written out.
		want := path
		if rest, ok := strings.CutPrefix(path, "/"+stage+"/"); ok && stage != "" && stage != "$default" {
			want = "/" + rest
		} else if path == "/"+stage && stage != "" && stage != "$default" {
			want = "/"
		}
		if !strings.HasPrefix(want, "/") {
			want = "/" + want
		}
		if unescaped, err := url.PathUnescape(want); err == nil {
			want = unescaped
		}
		if r.URL.Path != want {
			t.Errorf("path of %q in stage %q: got %q, want %q", path, stage, r.URL.Path, want)
		}
		if again, err := url.PathUnescape(r.URL.EscapedPath()); err != nil || again != r.URL.Path {
			t.Errorf("path %q written as %q reads as %q, %v", r.URL.Path, r.URL.EscapedPath(), again, err)
		}
	})
}

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
