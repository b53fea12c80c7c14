package main

import (
	"fmt"
	"os"
	"strings"
)

// render makes a table of Markdown.
func render(wanted []client, results [][]outcome) string {
	var b, notes strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	titles, rule := []string{"client"}, []string{"---"}
	for _, s := range scenarios {
		titles, rule = append(titles, s.title), append(rule, "---")
	}
	row(titles...)
	row(rule...)
	note := 0
	for i, c := range wanted {
		cells := []string{c.title}
		for j, o := range results[i] {
			cell := fmt.Sprintf("%d of %d", o.sent-o.lost, o.sent)
			if why := o.complaint(); why != "" {
				cell = why
				if reason := known[c.name][scenarios[j].name]; reason != "" {
					note++
					cell += fmt.Sprintf(" (%d)", note)
					fmt.Fprintf(&notes, "%d. %s\n", note, reason)
				}
			}
			cells = append(cells, cell)
		}
		row(cells...)
	}
	if note > 0 {
		return b.String() + "\n" + notes.String()
	}
	return b.String()
}

const begin, end = "<!-- matrix: written by `make test-matrix` -->\n", "<!-- /matrix -->\n"

// writeTable puts the table between its marks.
func writeTable(file, text string) error {
	old, err := os.ReadFile(file) //nolint:gosec // named by whoever starts this
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no place for the table", file)
	}
	return os.WriteFile(file, []byte(head+begin+text+end+tail), 0o600) //nolint:gosec // as above
}
