package metrics

import (
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Markdown returns a table of the program's own metrics with their labels and meaning.
func (m *Metrics) Markdown() (string, error) {
	families, err := m.registry.Gather()
	if err != nil {
		return "", fmt.Errorf("gather metrics: %w", err)
	}
	var b strings.Builder
	b.WriteString("| metric | type | meaning |\n|---|---|---|\n")
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "event_piper_") {
			continue
		}
		kind := strings.ToLower(f.GetType().String())
		fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", f.GetName(), labels(f), kind, f.GetHelp())
	}
	return b.String(), nil
}

// labels lists a family's labels with their values, except for a version, which is any.
func labels(f *dto.MetricFamily) string {
	var name string
	var values []string
	for _, series := range f.GetMetric() {
		for _, l := range series.GetLabel() {
			name = l.GetName()
			values = append(values, l.GetValue())
		}
	}
	switch name {
	case "":
		return ""
	case "version":
		return "{version}"
	}
	return "{" + name + "}` " + "`" + strings.Join(values, "` `")
}
