package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core/settings"
)

var update = flag.Bool("update", false, "write the settings into docs/operating.md")

func TestTheDocsListTheSettings(t *testing.T) {
	const file, begin, end = "../../docs/operating.md", "which also checks it -->\n", "<!-- /settings -->"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	_, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatalf("docs/operating.md has no place for the settings, between %q and %q", begin, end)
	}
	var c config
	s := settings.New("stream", "")
	c.define(s)
	want := before + begin + s.Markdown() + end + after
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatal("the settings of docs/operating.md are not those of --help: run go test ./cmd/stream -update")
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
