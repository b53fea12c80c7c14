package gatewaytest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core/settings"
)

// WantSettings checks that all variables that the template gives a function are settings of it.
func WantSettings(t *testing.T, function string, define func(*settings.Set)) {
	t.Helper()
	template, err := os.ReadFile(filepath.Join("..", "..", "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, resource, _ := strings.Cut(string(template), "\n  "+function+":\n")
	_, variables, _ := strings.Cut(resource, "\n        Variables:\n")
	variables, _, _ = strings.Cut(variables, "\n\n")
	names := regexp.MustCompile(`(?m)^          (\w+):`).FindAllStringSubmatch(variables, -1)
	if len(names) == 0 {
		t.Fatal("the template sets nothing")
	}
	s := settings.New(function, "")
	define(s)
	help := s.Help()
	for _, name := range names {
		if !regexp.MustCompile(`\b` + name[1] + `\b`).MatchString(help) {
			t.Errorf("the template sets %s, which is none of the function's settings:\n%s", name[1], help)
		}
	}
}
