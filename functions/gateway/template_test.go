package gateway_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What the adapter and the trust in X-Consumer-Id rest on, and linters of the template do not look at.
func TestTemplateFitsTheAdapter(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(raw), "\nResources:\n")
	section, _, _ := strings.Cut(after, "\nOutputs:\n")
	resources := make(map[string]string)
	for _, r := range regexp.MustCompile(`(?m)^  (\w+):\n(?:(?:    .*|)\n)+`).FindAllStringSubmatch(section, -1) {
		resources[r[1]] = r[0]
	}
	value := func(resource, key string) string {
		m := regexp.MustCompile(`(?m)^ +` + regexp.QuoteMeta(key) + `: +(\S+)`).FindStringSubmatch(resources[resource])
		if m == nil {
			t.Fatalf("%s has no %s", resource, key)
		}
		return strings.Trim(m[1], `"`)
	}
	number := func(resource, key string) int {
		n, err := strconv.Atoi(value(resource, key))
		if err != nil {
			t.Fatalf("%s of %s: %v", key, resource, err)
		}
		return n
	}

	for _, want := range []struct{ resource, key, value string }{
		{"PollFunction", "BuildMethod", "makefile"},
		{"PollFunction", "Handler", "bootstrap"},
		{"PollFunction", "Runtime", "provided.al2023"},
		{"EventsIntegration", "PayloadFormatVersion", "2.0"},
		{"DefaultIntegration", "PayloadFormatVersion", "2.0"},
		{"EventsIntegration", "- overwrite:header.x-consumer-id", "$context.authorizer.claims.sub"},
		{"DefaultIntegration", "remove:header.x-consumer-id", "''"},
	} {
		if got := value(want.resource, want.key); got != want.value {
			t.Errorf("%s of %s: got %s, want %s", want.key, want.resource, got, want.value)
		}
	}
	for _, integration := range []string{"EventsIntegration", "DefaultIntegration"} {
		api, function := number(integration, "TimeoutInMillis"), number("PollFunction", "Timeout")*1000
		if api > 30_000 || function >= api {
			t.Errorf("%s waits %d ms and the function runs %d ms, want function < integration <= 30000", integration, api, function)
		}
	}
}
