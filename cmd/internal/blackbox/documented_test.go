//go:build unix

package blackbox_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// TestTheLifeOfAnEvent does what docs/events.md shows, in its order, and compares what it says that one gets. What needs
// pg_cron is left out.
func TestTheLifeOfAnEvent(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs/events.md"))
	if err != nil {
		t.Fatal(err)
	}
	dsn := pgtest.New(t)
	db := connect(t, dsn)
	db.exec(t, "create table orders (id int)") // of the application
	d := documented{site: site{base: start(t, "stream", "DATABASE_URL="+dsn).url(""), db: db}, dsn: dsn}
	blocks := regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)\n```$").FindAllStringSubmatch(string(page), -1)
	for _, block := range blocks {
		language, text := block[1], block[2]
		switch {
		case strings.Contains(text, "pg_cron"):
		case language == "sql":
			if _, err := db.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
				t.Errorf("%s: %v", text, err)
			}
			d.settle(t)
		case language == "json":
			for line := range strings.Lines(text) {
				d.want(t, strings.TrimSpace(line))
			}
		default:
			for line := range strings.Lines(text) {
				d.run(t, strings.TrimSpace(line))
			}
		}
	}
	if d.compared < 5 {
		t.Errorf("want the page's answers compared, found %d", d.compared)
	}
}

// documented is a page that is being followed.
type documented struct {
	site
	dsn      string
	last     func() answer // asks again for what was polled last
	compared int
}

// run does what a line of a terminal does.
func (d *documented) run(t *testing.T, line string) {
	t.Helper()
	if _, arguments, ok := strings.Cut(line, " bin/stream "); ok {
		launch(t, "stream", strings.Fields(arguments), "DATABASE_URL="+d.dsn).exit(t, 0)
		return
	}
	url := regexp.MustCompile(`localhost:4000(/[^"]*)`).FindStringSubmatch(line)
	if url == nil || !strings.HasPrefix(line, "curl ") {
		t.Errorf("nobody knows how to run %q", line)
		return
	}
	var headers []string
	for _, header := range regexp.MustCompile(`-H "([^:]*): ([^"]*)"`).FindAllStringSubmatch(line, -1) {
		headers = append(headers, header[1], header[2])
	}
	if !strings.Contains(line, " -N ") {
		d.last = func() answer { return ask(t, http.MethodGet, d.base+url[1], "", headers...) }
		return
	}
	s, err := openAt(strings.TrimPrefix(d.base, "http://"), url[1], headers[1], fromNow, headers[2:]...)
	if err != nil {
		t.Errorf("%s: %v", line, err)
		return
	}
	s.close()
}

// want compares an answer, or one of its events, with what the page says.
func (d *documented) want(t *testing.T, line string) {
	t.Helper()
	timestamp := regexp.MustCompile(`"timestamp":"[^"]*"`)
	want := timestamp.ReplaceAllString(line, `"timestamp":…`)
	a := d.last()
	got := timestamp.ReplaceAllString(strings.TrimSpace(a.body), `"timestamp":…`)
	d.compared++
	if whole := strings.HasPrefix(line, `{"events":`) || a.status != http.StatusOK; whole && got != want || !strings.Contains(got, want) {
		t.Errorf("%s: want\n%s\ngot\n%s", a.request, want, got)
	}
}
