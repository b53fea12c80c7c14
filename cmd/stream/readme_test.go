package main

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core/settings"
)

var update = flag.Bool("update", false, "write the settings into the README")

func TestREADMEListsTheSettings(t *testing.T) {
	const file, begin, end = "../../README.md", "which also checks it -->\n", "<!-- /settings -->"
	readme, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(readme), begin)
	_, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatalf("the README has no place for the settings, between %q and %q", begin, end)
	}
	var c config
	s := settings.New("stream", "")
	c.define(s)
	want := before + begin + s.Markdown() + end + after
	if want == string(readme) {
		return
	}
	if !*update {
		t.Fatal("the README's settings are not those of --help: run go test ./cmd/stream -update")
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
