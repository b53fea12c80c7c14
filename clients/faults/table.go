package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// table counts, for each phase and reader, the events and requests since the phase before.
type table struct {
	readers *readers
	phases  []string
	cells   []map[string]cell // one for each phase
	before  map[string]cell
}

type cell struct{ events, streams, polls int }

func newTable(rs *readers) *table { return &table{readers: rs, before: map[string]cell{}} }

// add ends a phase.
func (t *table) add(phase string) {
	rs := t.readers
	rs.mu.Lock()
	defer rs.mu.Unlock()
	cells := map[string]cell{}
	for _, r := range rs.all {
		traffic := rs.proxy.traffic(r.name)
		now, before := cell{len(r.got), traffic.streams, traffic.polls}, t.before[r.name]
		cells[r.name] = cell{now.events - before.events, now.streams - before.streams, now.polls - before.polls}
		t.before[r.name] = now
	}
	t.phases, t.cells = append(t.phases, phase), append(t.cells, cells)
}

// print prints the table and returns what was wrong.
func (t *table) print(rows []row) error {
	rs := t.readers
	rs.mu.Lock()
	defer rs.mu.Unlock()
	fmt.Printf("%d committed events. For each reader: events handled (streams+polls asked for), until it streams again.\n", len(rows))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	line := func(first string, of func(*reader) string) {
		cells := []string{first}
		for _, r := range rs.all {
			cells = append(cells, of(r))
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	line("fault", func(r *reader) string { return r.name })
	for i, phase := range t.phases {
		line(phase, func(r *reader) string {
			c, ok := t.cells[i][r.name]
			if !ok {
				return "-"
			}
			return fmt.Sprintf("%d (%d+%d)", c.events, c.streams, c.polls)
		})
	}
	var wrong []error
	for _, text := range rs.wrong {
		wrong = append(wrong, errors.New(text))
	}
	faults := map[string]verdict{}
	for _, r := range rs.all {
		v := judge(r, rows)
		faults[r.name] = v
		if v != (verdict{expected: v.expected}) || v.expected == 0 {
			wrong = append(wrong, fmt.Errorf("%s: %+v", r.name, v))
		}
	}
	line("expected", func(r *reader) string { return fmt.Sprint(faults[r.name].expected) })
	line("missing", func(r *reader) string { return fmt.Sprint(faults[r.name].missing) })
	line("twice", func(r *reader) string { return fmt.Sprint(faults[r.name].twice) })
	line("out of order", func(r *reader) string { return fmt.Sprint(faults[r.name].disordered) })
	line("not as committed", func(r *reader) string { return fmt.Sprint(faults[r.name].foreign) })
	return errors.Join(w.Flush(), errors.Join(wrong...))
}

// verdict counts what a reader was handed that it should not have been, and the other way round.
type verdict struct{ expected, missing, twice, disordered, foreign int }

func judge(r *reader, rows []row) (v verdict) {
	rows = slices.DeleteFunc(slices.Clone(rows), func(row row) bool {
		// What one that was closed has not printed, it may have been handed.
		return row.ID <= r.start || r.ended && (len(r.got) == 0 || row.ID > r.got[len(r.got)-1].ID)
	})
	v.expected = len(rows)
	times := map[row]int{}
	for i, got := range r.got {
		times[got]++
		if i > 0 && got.ID < r.got[i-1].ID {
			v.disordered++
		}
	}
	for _, row := range rows {
		switch n := times[row]; {
		case n == 0:
			v.missing++
		case n > 1:
			v.twice += n - 1
		}
		delete(times, row)
	}
	v.foreign = len(times)
	return v
}
