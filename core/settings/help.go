package settings

import (
	"fmt"
	"strings"
)

// Help is what --help prints: every setting with its flag, its default and what it takes.
func (s *Set) Help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s [flags]\n\n%s\n\n", strings.Join(append([]string{s.program}, s.takes...), " "), strings.TrimSpace(s.synopsis))
	b.WriteString("Each setting is an environment variable and a flag; the flag wins.\n")
	section := ""
	for i, d := range s.settings {
		if i == 0 || d.section != section {
			section = d.section
			fmt.Fprintf(&b, "\n%s:\n", orElse(section, "Settings"))
		}
		fmt.Fprintf(&b, "  %s, --%s", d.name, d.flag)
		if d.def != "" {
			fmt.Fprintf(&b, " (default %s)", d.def)
		}
		fmt.Fprintf(&b, "\n        %s\n", strings.ReplaceAll(d.describe(), "\n", "\n        "))
	}
	return b.String()
}

// Markdown is the tables of the settings in docs/operating.md, one for each section.
func (s *Set) Markdown() string {
	var b strings.Builder
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	section := ""
	for i, d := range s.settings {
		if i == 0 || d.section != section {
			section = d.section
			if i > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "| %s | Default | Meaning |\n|---|---|---|\n", orElse(section, "Setting"))
		}
		def := ""
		if d.def != "" {
			def = "`" + cell.Replace(d.def) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", d.name, def, cell.Replace(d.describe()))
	}
	return b.String()
}

// describe is the help with what the setting takes after it.
func (d *setting) describe() string {
	if d.takes == "" {
		return d.help
	}
	return d.help + " Takes " + d.takes + "."
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
