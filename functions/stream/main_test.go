package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core/settings"
)

func TestTheTemplateSetsWhatTheFunctionKnows(t *testing.T) {
	template, err := os.ReadFile(filepath.Join("..", "..", "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, function, _ := strings.Cut(string(template), "\n  StreamFunction:\n")
	_, variables, _ := strings.Cut(function, "\n        Variables:\n")
	variables, _, _ = strings.Cut(variables, "\n\n")
	names := regexp.MustCompile(`(?m)^          (\w+):`).FindAllStringSubmatch(variables, -1)
	if len(names) == 0 {
		t.Fatal("the template sets nothing")
	}
	var c config
	s := settings.New("stream", "")
	c.define(s)
	for _, name := range names {
		if help := s.Help(); !regexp.MustCompile(`\b` + name[1] + `\b`).MatchString(help) {
			t.Errorf("the template sets %s, which is none of the function's settings:\n%s", name[1], help)
		}
	}
}
