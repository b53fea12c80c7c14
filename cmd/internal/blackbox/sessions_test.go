package blackbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/postgresql/devdb"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// TestSessions lists who reads, and ends some of them: the client comes back by itself, at its cursor.
func TestSessions(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	port := strconv.Itoa(devdb.FreePort())
	p := start(t, "stream", "DATABASE_URL="+dsn, "MANAGE_PORT="+port)
	manage := "http://127.0.0.1:" + port + "/manage/sessions"
	type session struct {
		ID        int64
		Consumer  string
		Transport string
		Since     time.Time
		Cursor    int64
		Behind    int64
	}
	list := func(query string) (all []session, total int) {
		t.Helper()
		a := fetch(t, manage+query)
		var answer struct {
			Sessions []session
			Total    int
		}
		if err := json.Unmarshal([]byte(a.body), &answer); err != nil || a.status != http.StatusOK {
			t.Fatalf("%s: %d %s (%v)", query, a.status, a.body, err)
		}
		return answer.Sessions, answer.Total
	}
	remove := func(url string, status int, body string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodDelete, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		got, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != status || !strings.Contains(string(got), body) {
			t.Errorf("DELETE %s: %d %s (%v), want %d with %q", url, response.StatusCode, got, err, status, body)
		}
	}
	wantGoodbye := func(s *stream) {
		t.Helper()
		if _, err := s.nextEvent(); !errors.Is(err, io.EOF) || s.tellings != 2 {
			t.Errorf("want a retry and an orderly end, got %v after %d", err, s.tellings)
		}
	}
	if all, total := list(""); len(all) != 0 || total != 0 {
		t.Errorf("want no sessions yet, got %+v, %d", all, total)
	}
	toto, titi := mustOpen(t, p.addr, "toto", fromNow), mustOpen(t, p.addr, "titi", fromNow)
	all, total := list("?consumer=toto")
	if len(all) != 1 || total != 1 || all[0].Consumer != "toto" || all[0].Transport != "sse" || time.Since(all[0].Since) > time.Minute {
		t.Fatalf("want the session of toto, got %+v, %d", all, total)
	}
	if all, total := list("?limit=1"); len(all) != 1 || total != 2 {
		t.Errorf("want one of two, got %+v, %d", all, total)
	}
	remove(fmt.Sprintf("%s/%d", manage, all[0].ID), http.StatusNoContent, "")
	wantGoodbye(toto)
	eventually(t, "the session to be gone", func() bool { _, total := list(""); return total == 1 })
	remove(fmt.Sprintf("%s/%d", manage, all[0].ID), http.StatusNotFound, "no such session")
	remove(manage+"/none", http.StatusNotFound, "no such session")
	remove(manage+"?consumer=titi", http.StatusOK, `{"ended":1}`)
	wantGoodbye(titi)
	remove(manage+"?consumer=titi", http.StatusOK, `{"ended":0}`)
	remove(manage, http.StatusBadRequest, "consumer")
	if a := fetch(t, manage+"?limit=5000"); a.status != http.StatusBadRequest || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a limit that is too high: got %d %s", a.status, a.body)
	}
	// The public port neither lists nor ends.
	for _, path := range []string{"/manage/sessions", "/manage/sessions/1"} {
		if a := fetch(t, p.url(path)); a.status != http.StatusNotFound {
			t.Errorf("%s on the public port: want 404, got %d", path, a.status)
		}
		remove(p.url(path), http.StatusNotFound, "")
	}
	p.stop(t)
	// Without a port for operators there is no list at all.
	p = start(t, "stream", "DATABASE_URL="+dsn)
	if a := fetch(t, p.url("/manage/sessions")); a.status != http.StatusNotFound {
		t.Errorf("/manage/sessions without MANAGE_PORT: want 404, got %d", a.status)
	}
	remove(p.url("/manage/sessions?consumer=toto"), http.StatusNotFound, "")
}
