//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// table is rows of cells below a title and a header. The first column is aligned left, the others right.
type table struct {
	title string
	rows  [][]string
}

func newTable(title string, header ...string) *table { return &table{title, [][]string{header}} }

// row adds a row; cells are formatted as their type asks for.
func (t *table) row(cells ...any) {
	var row []string
	for _, c := range cells {
		row = append(row, cell(c))
	}
	t.rows = append(t.rows, row)
}

func (t *table) print(w io.Writer) {
	var widths []int
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	b.WriteString("\n" + t.title + "\n")
	for _, row := range t.rows {
		for i, c := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if i == 0 {
				b.WriteString("  " + c + pad)
			} else {
				b.WriteString("  " + pad + c)
			}
		}
		b.WriteByte('\n')
	}
	_, _ = io.WriteString(w, b.String()) // a broken terminal has nobody to tell
}

func cell(v any) string {
	switch v := v.(type) {
	case time.Duration:
		switch {
		case v < 10*time.Millisecond:
			return fmt.Sprintf("%.2f ms", float64(v)/1e6)
		case v < time.Second:
			return fmt.Sprintf("%.0f ms", float64(v)/1e6)
		}
		return fmt.Sprintf("%.2f s", v.Seconds())
	case float64:
		if v < 100 {
			return fmt.Sprintf("%.2f", v)
		}
		return grouped(int64(v + 0.5))
	case int:
		return grouped(int64(v))
	case int64:
		return grouped(v)
	}
	return fmt.Sprint(v)
}

// grouped writes thousands apart.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// kilobytes is a share of a number of bytes, in units of 1,024.
func kilobytes(bytes int64, of int) string {
	return fmt.Sprintf("%.1f KB", float64(bytes)/float64(of)/1024)
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.0f MB", float64(bytes)/(1<<20)) }

// median is the middle one of an odd number of values.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)/2]
}
