//go:build unix

package blackbox_test

import (
	"fmt"
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
	d := document(t)
	d.db.exec(t, "create table orders (id int)") // of the application
	for _, b := range blocks(t, "docs/events.md") {
		language, text := b[1], b[2]
		switch {
		case strings.Contains(text, "pg_cron"):
		case language == "sql":
			d.execute(t, text)
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

// TestTheTourOfTheReadme does the same with README.md: what is inserted there comes to the stream that was opened, and again
// as replay. The page leaves to its reader to insert some more before that.
func TestTheTourOfTheReadme(t *testing.T) {
	t.Parallel()
	d := document(t)
	var insert string
	for _, b := range blocks(t, "README.md") {
		language, text := b[1], b[2]
		switch {
		case language == "js", language == "java", strings.HasPrefix(text, "make "), strings.HasPrefix(text, "psql "):
		case language == "sql":
			insert = text
			d.execute(t, text)
		case language == "json":
			d.want(t, text)
		case strings.HasPrefix(text, "id: "):
			d.wantFrames(t, text)
		default:
			for d.stream != nil && d.settle(t) < 8 {
				d.execute(t, insert)
			}
			d.run(t, text)
		}
	}
	if d.compared != 3 {
		t.Errorf("want the answers to both streams and a poll compared, found %d", d.compared)
	}
}

// documented is a page that is being followed.
type documented struct {
	site
	dsn      string
	last     func() answer // asks again for what was polled last
	stream   *stream       // the one that was opened last
	compared int
}

func document(t *testing.T) *documented {
	t.Helper()
	dsn := pgtest.New(t)
	return &documented{site: site{base: start(t, "stream", "DATABASE_URL="+dsn).url(""), db: connect(t, dsn)}, dsn: dsn}
}

// blocks returns the language and the text of each block of code, from 1 on.
func blocks(t *testing.T, page string) [][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)\n```$").FindAllStringSubmatch(string(text), -1)
}

func (d *documented) execute(t *testing.T, statements string) {
	t.Helper()
	if _, err := d.db.PgConn().Exec(t.Context(), statements).ReadAll(); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
	d.settle(t)
}

// run does what a line of a terminal does.
func (d *documented) run(t *testing.T, line string) {
	t.Helper()
	if _, arguments, ok := strings.Cut(line, " bin/stream "); ok {
		launch(t, "stream", strings.Fields(arguments), "DATABASE_URL="+d.dsn).exit(t, 0)
		return
	}
	url := regexp.MustCompile(`localhost:4000(/[^" ]*)`).FindStringSubmatch(line)
	if url == nil || !strings.HasPrefix(line, "curl ") {
		t.Errorf("nobody knows how to run %q", line)
		return
	}
	var headers []string
	for _, header := range regexp.MustCompile(`-H "([^:]*): ([^"]*)"`).FindAllStringSubmatch(line, -1) {
		headers = append(headers, header[1], header[2])
	}
	if strings.HasPrefix(url[1], "/events/poll") {
		d.last = func() answer { return ask(t, http.MethodGet, d.base+url[1], "", headers...) }
		return
	}
	s, err := openAt(strings.TrimPrefix(d.base, "http://"), url[1], headers[1], fromNow, headers[2:]...)
	if err != nil {
		t.Errorf("%s: %v", line, err)
		return
	}
	t.Cleanup(s.close)
	d.stream = s
}

// wantFrames compares what comes next over the stream that was opened last, up to "…".
func (d *documented) wantFrames(t *testing.T, text string) {
	t.Helper()
	d.compared++
	for want := range strings.SplitSeq(text, "\n\n") {
		f, err := d.stream.nextEvent()
		if err != nil {
			t.Fatalf("want %s, got %v", want, err)
		}
		got := fmt.Sprintf("id: %d\nevent: %s\ndata: %s", f.id, f.event, f.data)
		if start, cut := strings.CutSuffix(want, "…"); !strings.HasPrefix(got, start) || !cut && got != want {
			t.Errorf("want\n%s\ngot\n%s", want, got)
		}
	}
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
