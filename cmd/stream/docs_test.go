package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
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

// TestDeploymentsSetWhatTheContainersKnow: a setting that is misspelt in a manifest changes nothing, in silence.
func TestDeploymentsSetWhatTheContainersKnow(t *testing.T) {
	var c config
	s := settings.New("stream", "")
	c.define(s)
	help := s.Help()
	files, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, file := range append(files, "../../template.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`(?m)- (?:name: |\{ Name: )([A-Z][A-Z_]+)\b`).FindAllStringSubmatch(string(text), -1) {
			named++
			if name := match[1]; name != "GOMEMLIMIT" && !regexp.MustCompile(`\b`+name+`\b`).MatchString(help) {
				t.Errorf("%s sets %s, which is no setting", file, name)
			}
		}
	}
	if named < 10 {
		t.Errorf("want the settings of all deployments, found %d", named)
	}
}
