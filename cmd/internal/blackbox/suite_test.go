//go:build unix

package blackbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// targets are all the ways to answer GET /events/poll. Start returns the URL below which the routes are.
var targets = []struct {
	name  string
	start func(t *testing.T, dsn string) string
}{
	{"stream", func(t *testing.T, dsn string) string { return start(t, "stream", "DATABASE_URL="+dsn).url("") }},
	{"poll", func(t *testing.T, dsn string) string { return start(t, "poll", "DATABASE_URL="+dsn).url("") }},
	{"lambda", func(t *testing.T, dsn string) string {
		return startLambda(t, dsn, gatewaytest.Config{Freeze: true}).URL()
	}},
	{"lambda in a stage", func(t *testing.T, dsn string) string {
		return startLambda(t, dsn, gatewaytest.Config{Stage: "prod"}).URL()
	}},
	{"lambda with an interval", func(t *testing.T, dsn string) string {
		return startLambda(t, dsn, gatewaytest.Config{Env: []string{"POLL_WAIT=interval"}}).URL()
	}},
}

// TestPolls asks every target the same.
func TestPolls(t *testing.T) {
	for _, target := range targets {
		t.Run(target.name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.New(t)
			s := site{base: target.start(t, dsn), db: connect(t, dsn)}
			for _, part := range []struct {
				name string
				run  func(*testing.T, site)
			}{
				{"exact events", testExactEvents},
				{"pages", testPages},
				{"types", testTypes},
				{"topics", testTopics},
				{"formats", testFormats},
				{"false amendments", testFalseAmendments},
				{"cursor moves past others' events", testCursorOfOthers},
				{"from now on", testFromNow},
				{"what was just committed", testJustCommitted},
				{"a wait ends with its event", testWait},
				{"a wait without an event", testWaitInVain},
				{"preferred wait", testPrefer},
				{"cursor ahead", testAhead},
				{"cursor pruned", testPruned},
				{"refusals", testRefusals},
				{"routes", testRoutes},
				{"HEAD", testHead},
				{"documents", testDocuments},
				{"health", testHealth},
			} {
				t.Run(part.name, func(t *testing.T) { part.run(t, s) })
			}
		})
	}
}

// site is one target over a database of its own.
type site struct {
	base string
	db   database
}

// poll asks for events; each part of the test has a consumer of its own.
func (s site) poll(t testing.TB, consumer, query string, headers ...string) answer {
	t.Helper()
	return ask(t, http.MethodGet, s.base+"/events/poll?"+query, consumer, headers...)
}

// newest returns the position that the target has come to.
func (s site) newest(t testing.TB) int64 {
	t.Helper()
	return s.poll(t, "anybody", "wait=0").batch(t).Cursor
}

// settle waits until the target has read what is committed, and returns the newest position.
func (s site) settle(t testing.TB) int64 {
	t.Helper()
	id := query[int64](t, s.db, "select coalesce(max(id), 0) from events")
	eventually(t, "the target to read what is committed", func() bool { return s.newest(t) >= id })
	return id
}

func testExactEvents(t *testing.T, s site) {
	before := s.settle(t)
	first := query[int64](t, s.db, `insert into events (type, timestamp, subscriber, payload) values
		('insert', '2026-03-01 13:00:00.123456+01', 'exact', '{"foo": "bar"}') returning id`)
	second := query[int64](t, s.db, `insert into events (type, timestamp, subscriber, payload) values
		('a "type" <é>', '2026-03-01 12:00:00+00', 'exact', $json$ { "z" : 1.50, "a" : [ 12345678901234567890123 , -0.0, 1e400 ],
		"z" : "<&> \u0000 \ud800 ü  ", "" : null } $json$) returning id`)
	third := s.db.insert(t, "exact", "insert", `"`+strings.Repeat("x", 1<<20)+`"`)

	s.settle(t)
	a := s.poll(t, "exact", fmt.Sprint("limit=2&after=", before))
	want := fmt.Sprintf(`{"events":[`+
		`{"id":%d,"type":"insert","timestamp":"2026-03-01T12:00:00.123456Z","subscriber":"exact","payload":{"foo":"bar"}},`+
		`{"id":%d,"type":%s,"timestamp":"2026-03-01T12:00:00Z","subscriber":"exact","payload":`+
		`{"z":1.50,"a":[12345678901234567890123,-0.0,1e400],"z":"<&> \u0000 \ud800 ü  ","":null}}`+
		`],"cursor":%[2]d,"more":true}`, first, second, typeAs(a.body))
	if a.body != want {
		t.Errorf("%s: want\n%s\ngot\n%s", a.request, want, a.body)
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("want an answer that no cache keeps, got Cache-Control: %s", got)
	}
	b := s.poll(t, "exact", fmt.Sprint("after=", second)).batch(t)
	if len(b.Events) != 1 || b.Events[0].ID != third || len(b.Events[0].Payload) != 1<<20+2 || b.More {
		t.Errorf("want one event of 1 MB, id %d, and no more; got ids %v, more %v", third, b.ids(), b.More)
	}
}

// typeAs returns the form of the type that the body has: JSON may escape < and > or not.
func typeAs(body string) string {
	if strings.Contains(body, `\u003c`) {
		return `"a \"type\" \u003cé\u003e"`
	}
	return `"a \"type\" <é>"`
}

func testPages(t *testing.T, s site) {
	before := s.settle(t)
	s.db.exec(t, `insert into events (type, timestamp, subscriber, payload)
		select 'insert', now(), case when n % 3 = 0 then 'other' else 'pages' end, to_json(n) from generate_series(1, 1500) n`)
	s.settle(t)
	want := slices.DeleteFunc(s.db.ids(t, "pages"), func(id int64) bool { return id <= before })

	for _, limit := range []int{1000, 999, 250, 100} {
		var got []int64
		var pages int
		cursor := before
		for more := true; more; pages++ {
			b := s.poll(t, "pages", fmt.Sprintf("wait=0&after=%d&limit=%d", cursor, limit)).batch(t)
			if n := len(b.Events); n > limit || n == 0 {
				t.Fatalf("limit=%d: want up to as many events, got %d (cursor %d, more %v)", limit, n, b.Cursor, b.More)
			}
			got = append(got, b.ids()...)
			if last := got[len(got)-1]; b.Cursor < last || b.More && b.Cursor != last {
				t.Errorf("limit=%d: want the cursor at the last event %d, or beyond if there are no more; got %d (more %v)", limit, last, b.Cursor, b.More)
			}
			cursor, more = b.Cursor, b.More
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit=%d: want the %d events of the consumer in order, got %d", limit, len(want), len(got))
		}
		if want := (len(want) + limit - 1) / limit; pages != want {
			t.Errorf("limit=%d: want %d pages, got %d", limit, want, pages)
		}
	}
	if got := len(s.poll(t, "pages", fmt.Sprint("after=", before)).batch(t).Events); got != 100 {
		t.Errorf("without a limit: want 100 events, got %d", got)
	}
}

func testTypes(t *testing.T, s site) {
	before := s.settle(t)
	ids := map[string]int64{}
	var last int64
	for _, name := range []string{"order.created", "order.paid", "order.sent", "ignored"} {
		last = s.db.insert(t, "types", name, `{}`)
		ids[name] = last
	}
	s.settle(t)
	for _, c := range []struct {
		query string
		want  []int64
	}{
		{"", []int64{ids["order.created"], ids["order.paid"], ids["order.sent"], ids["ignored"]}},
		{"types=", []int64{ids["order.created"], ids["order.paid"], ids["order.sent"], ids["ignored"]}},
		{"types=order.paid", []int64{ids["order.paid"]}},
		{"types=order.sent,order.created", []int64{ids["order.created"], ids["order.sent"]}},
		{"types=order.sent&types=order.created", []int64{ids["order.created"], ids["order.sent"]}},
		{"types=order.sent%2Corder.paid&types=order.created,nothing", []int64{ids["order.created"], ids["order.paid"], ids["order.sent"]}},
		{"types=order", []int64{}},
	} {
		b := s.poll(t, "types", fmt.Sprintf("wait=0&after=%d&%s", before, c.query)).batch(t)
		if !slices.Equal(b.ids(), c.want) || b.Cursor != last || b.More {
			t.Errorf("%s: want %v, the cursor at %d and no more; got %v, %d, %v", c.query, c.want, last, b.ids(), b.Cursor, b.More)
		}
	}
}

func testCursorOfOthers(t *testing.T, s site) {
	before := s.settle(t)
	own := s.db.insert(t, "idle", "insert", `{}`)
	others := s.db.insert(t, "busy", "insert", `{}`)
	s.settle(t)
	if b := s.poll(t, "idle", fmt.Sprint("wait=0&after=", before)).batch(t); !slices.Equal(b.ids(), []int64{own}) || b.Cursor != others {
		t.Errorf("want event %d and the cursor at %d, past the others' event; got %v, %d", own, others, b.ids(), b.Cursor)
	}
	others = s.db.insert(t, "busy", "insert", `{}`)
	s.settle(t)
	if b := s.poll(t, "idle", fmt.Sprint("wait=0&after=", own)).batch(t); len(b.Events) != 0 || b.Cursor != others || b.More {
		t.Errorf("want no event and the cursor at %d; got %v, %d, more %v", others, b.ids(), b.Cursor, b.More)
	}
}

func testFromNow(t *testing.T, s site) {
	s.db.insert(t, "now", "insert", `{}`)
	last := s.db.insert(t, "now", "insert", `{}`)
	s.settle(t)
	if b := s.poll(t, "now", "wait=0").batch(t); len(b.Events) != 0 || b.Cursor != last {
		t.Errorf("without a cursor: want no event and the cursor at %d, got %v, %d", last, b.ids(), b.Cursor)
	}
	next := s.db.insert(t, "now", "insert", `{}`)
	if b := s.poll(t, "now", fmt.Sprint("after=", last)).batch(t); !slices.Equal(b.ids(), []int64{next}) {
		t.Errorf("after %d: want %d, got %v", last, next, b.ids())
	}
}

// testJustCommitted asks for events as soon as their inserts have returned. Most must come, and not all, because a container
// whose machine is busy answers after a second with what it knows.
func testJustCommitted(t *testing.T, s site) {
	const n = 20
	found, before := 0, 0
	for range n {
		newest := s.db.insert(t, "nobody", "insert", `1`)
		if s.poll(t, "just", "wait=0").batch(t).Cursor >= newest {
			before++
		}
		id := s.db.insert(t, "just", "insert", `1`)
		if slices.Equal(s.poll(t, "just", fmt.Sprint("wait=0&after=", id-1)).batch(t).ids(), []int64{id}) {
			found++
		}
	}
	if found <= n/2 || before <= n/2 {
		t.Errorf("%d of %d events were found as soon as they were committed, and %d of the positions told", found, n, before)
	}
}

// testWait begins to wait before the event is there. What does not concern the poll does not end its wait:
// others' events, other types, a rollback.
func testWait(t *testing.T, s site) {
	before := s.settle(t)
	answers := make(chan answer, 3)
	for _, query := range []string{"", "&types=wanted", "&limit=1"} {
		sent := make(chan struct{})
		go func() { answers <- s.waitingPoll(t, "waits", fmt.Sprint("wait=25&after=", before, query), sent) }()
		select {
		case <-sent:
		case <-time.After(patience):
			t.Fatal("want a request to be sent, got none")
		}
	}
	s.db.insert(t, "others", "wanted", `{}`)
	s.db.exec(t, "begin")
	s.db.insert(t, "waits", "wanted", `"never committed"`)
	s.db.exec(t, "rollback")
	s.db.exec(t, "begin")
	want := s.db.insert(t, "waits", "wanted", `1`)
	s.db.exec(t, "commit")
	for range cap(answers) {
		if b := (<-answers).batch(t); !slices.Equal(b.ids(), []int64{want}) || b.Cursor < want || b.More {
			t.Errorf("want event %d as soon as it is committed; got %v, cursor %d, more %v", want, b.ids(), b.Cursor, b.More)
		}
	}
}

// waitingPoll closes sent once the request has been written. It may be called by any goroutine.
func (s site) waitingPoll(t testing.TB, consumer, query string, sent chan struct{}) answer {
	a, err := s.tryWaitingPoll(consumer, query, sent)
	if err != nil {
		t.Error(err)
	}
	return a
}

func (s site) tryWaitingPoll(consumer, query string, sent chan struct{}) (answer, error) {
	r, err := http.NewRequest(http.MethodGet, s.base+"/events/poll?"+query, nil)
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("X-Consumer-Id", consumer)
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) }}
	return send(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

func testWaitInVain(t *testing.T, s site) {
	before := s.settle(t)
	if b := s.poll(t, "nothing", fmt.Sprint("wait=1&after=", before)).batch(t); len(b.Events) != 0 || b.Cursor != before || b.More {
		t.Errorf("want an empty batch after the wait, got %+v", b)
	}
}

func testPrefer(t *testing.T, s site) {
	before := s.settle(t)
	for _, c := range []struct{ query, prefer, applied string }{
		{"", "wait=0", "wait=0"},
		{"", `respond-async, wait="0"; x=y`, "wait=0"},
		{"wait=0&", "wait=20", ""},
		{"wait=0&", "wait=abc", ""},
	} {
		a := s.poll(t, "prefers", fmt.Sprint(c.query, "after=", before), "Prefer", c.prefer)
		if b := a.batch(t); len(b.Events) != 0 {
			t.Errorf("want an empty batch, got %v", b.ids())
		}
		if got := a.header.Get("Preference-Applied"); got != c.applied {
			t.Errorf("%s with Prefer: %s: want Preference-Applied %q, got %q", a.request, c.prefer, c.applied, got)
		}
	}
}

func testAhead(t *testing.T, s site) {
	newest := s.settle(t)
	for _, after := range []string{"281474976710655", fmt.Sprint(newest + 1_000_000), "9223372036854775808", strings.Repeat("9", 50)} {
		p := s.poll(t, "ahead", "after="+after).problem(t, http.StatusGone)
		if p.Reason != "ahead" || p.Oldest == nil || p.Newest == nil || *p.Oldest != 0 || *p.Newest != newest {
			t.Errorf("after=%s: want reason ahead, oldest 0, newest %d; got %+v", after, newest, p)
		}
	}
}

func testPruned(t *testing.T, s site) {
	before := s.settle(t)
	s.db.insert(t, "pruned", "insert", `1`)
	deleted := s.db.insert(t, "pruned", "insert", `2`)
	kept := s.db.insert(t, "pruned", "insert", `3`)
	newest := s.db.insert(t, "others", "insert", `4`)
	s.db.exec(t, "delete from events where subscriber = 'pruned' and id <= $1", deleted)

	s.settle(t)
	for _, after := range []int64{before, deleted - 1} {
		p := s.poll(t, "pruned", fmt.Sprint("after=", after)).problem(t, http.StatusGone)
		if p.Reason != "pruned" || p.Oldest == nil || p.Newest == nil || *p.Oldest != deleted || *p.Newest != newest {
			t.Errorf("after=%d: want reason pruned, oldest %d, newest %d; got %+v", after, deleted, newest, p)
		}
	}
	if b := s.poll(t, "pruned", fmt.Sprint("after=", deleted)).batch(t); !slices.Equal(b.ids(), []int64{kept}) {
		t.Errorf("after oldest: want %d, got %v", kept, b.ids())
	}
	if b := s.poll(t, "others", fmt.Sprint("after=", before)).batch(t); !slices.Contains(b.ids(), newest) {
		t.Errorf("another consumer: want to go on as before, got %v", b.ids())
	}
}

func testRefusals(t *testing.T, s site) {
	for _, query := range []string{
		"after=abc", "after=-1", "after=1.5", "after=+1", "after=0x1", "after=1&after=2", "after=%00", "after=1%0d%0aX:%20y",
		"wait=abc", "wait=-1", "wait=301", "wait=1&wait=2", "wait=1e1", "limit=0", "limit=1001", "limit=-5", "limit=many",
		"types=a%0ab", "types=%00", "types=a,,b", "types=%ff", "types=" + strings.Repeat("x", 256),
		"types=" + strings.TrimSuffix(strings.Repeat("t,", 65), ","),
		"unknown=1", "consumer=toto", "lastEventId=1&unknown=1",
	} {
		s.poll(t, "refused", query).problem(t, http.StatusUnprocessableEntity)
	}
	s.poll(t, "", "wait=0").problem(t, http.StatusUnauthorized)
	if a := s.poll(t, "", "after=abc"); a.header.Get("WWW-Authenticate") == "" {
		t.Errorf("want 401 with WWW-Authenticate, got %v", a.header)
	}
	s.poll(t, strings.Repeat("x", 256), "wait=0").problem(t, http.StatusBadRequest)
	s.poll(t, "tab\there", "wait=0").problem(t, http.StatusBadRequest)
	if b := s.poll(t, strings.Repeat("ü", 255), "wait=0").batch(t); b.Events == nil {
		t.Errorf("want an empty list of events, not null")
	}
}

func testRoutes(t *testing.T, s site) {
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		a := ask(t, method, s.base+"/events/poll", "routes")
		a.problem(t, http.StatusMethodNotAllowed)
		if got := a.header.Get("Allow"); got != "GET, HEAD" {
			t.Errorf("%s: want Allow: GET, HEAD, got %q", a.request, got)
		}
	}
	for _, path := range []string{"/", "/events/poll/", "/events/poll/x", "/manage", "/%00", "/index.html", "/" + url.PathEscape("<script>")} {
		ask(t, http.MethodGet, s.base+path, "routes").problem(t, http.StatusNotFound)
	}
}

func testHead(t *testing.T, s site) {
	s.db.insert(t, "head", "insert", `{}`)
	if a := ask(t, http.MethodHead, s.base+"/events/poll?after=0", "head"); a.status != http.StatusOK || a.body != "" {
		t.Errorf("%s: want 200 without a body, got %d %q", a.request, a.status, a.body)
	}
	for path, status := range map[string]int{"/nothing": 404, "/events/poll?after=abc": 422, "/manage/health": 200, "/openapi.json": 200} {
		if a := ask(t, http.MethodHead, s.base+path, "head"); a.status != status || a.body != "" {
			t.Errorf("%s: want %d without a body, got %d %q", a.request, status, a.status, a.body)
		}
	}
}

func testDocuments(t *testing.T, s site) {
	a := ask(t, http.MethodGet, s.base+"/openapi.json", "")
	var document struct {
		OpenAPI string
		Paths   map[string]any
	}
	if err := json.Unmarshal([]byte(a.body), &document); a.status != http.StatusOK || err != nil {
		t.Fatalf("%s: want 200 and JSON, got %d (%v)", a.request, a.status, err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1") || document.Paths["/events/poll"] == nil {
		t.Errorf("%s: want OpenAPI 3.1 with /events/poll, got %s with %v", a.request, document.OpenAPI, document.Paths)
	}
	if a := ask(t, http.MethodGet, s.base+"/openapi.yaml", ""); a.status != http.StatusOK || !strings.Contains(a.body, "/events/poll:") {
		t.Errorf("%s: want 200 with /events/poll, got %d", a.request, a.status)
	}
	a = ask(t, http.MethodGet, s.base+"/docs", "")
	if got := a.header.Get("Content-Type"); a.status != http.StatusOK || !strings.HasPrefix(got, "text/html") {
		t.Errorf("%s: want a page, got %d %s", a.request, a.status, got)
	}
	// The page's parts are compressed, which must survive a gateway that carries text.
	if a := ask(t, http.MethodGet, s.base+"/docs/swagger-ui.css", ""); a.status != http.StatusOK || !strings.Contains(a.body, ".swagger-ui") {
		t.Errorf("%s: want the style sheet, got %d and %d bytes", a.request, a.status, len(a.body))
	}
}

func testHealth(t *testing.T, s site) {
	for _, path := range []string{"/manage/health", "/manage/health/live", "/manage/health/ready"} {
		a := ask(t, http.MethodGet, s.base+path, "")
		if got := a.header.Get("Content-Type"); a.status != http.StatusOK || got != "application/json" || a.body != `{"status":"UP"}` {
			t.Errorf("%s: want 200 application/json {\"status\":\"UP\"}, got %d %s %s", a.request, a.status, got, a.body)
		}
	}
}
