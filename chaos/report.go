package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/event-piper/event-piper/chaos/check"
)

// report is what rounds found.
type report struct {
	rounds    int
	version   int
	failovers int
	spent     time.Duration
	fallen    []fallen
	without   []string
	verdict   *check.Verdict
	beside    string   // how other readers fared
	found     []string // everything that must not be
}

func (r *report) add(other *report) {
	r.rounds += other.rounds
	r.version = other.version
	r.failovers += other.failovers
	r.spent += other.spent
	r.fallen = append(r.fallen, other.fallen...)
	r.without = other.without
	r.beside = other.beside
	r.found = append(r.found, other.found...)
	if other.verdict == nil {
		return
	}
	if r.verdict == nil {
		r.verdict = &check.Verdict{Resets: map[string]int{}}
	}
	a, b := r.verdict, other.verdict
	a.Committed += b.Committed
	a.Deliveries += b.Deliveries
	a.OfTopics += b.OfTopics
	a.RolledBack += b.RolledBack
	a.Sessions += b.Sessions
	a.PrunedUnread += b.PrunedUnread
	a.LostByDatabase += b.LostByDatabase
	a.Add(b.Failover)
	for reason, n := range b.Resets {
		a.Resets[reason] += n
	}
}

// print writes the table of faults, and what was found.
func (r *report) print(out io.Writer) {
	printf := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
	printf("\n%d rounds, %.0f s of faults, PostgreSQL %d.%d\n", r.rounds, r.spent.Seconds(), r.version/10000, r.version%10000)
	if v := r.verdict; v != nil {
		printf("%d events committed, %d rolled back, %d deliveries (%d of topics) in %d sessions, resets %v, deleted before an open session read them %d\n",
			v.Committed, v.RolledBack, v.Deliveries, v.OfTopics, v.Sessions, v.Resets, v.PrunedUnread)
	}
	if v := r.verdict; v != nil && r.failovers > 0 {
		printf("%d failovers: confirmed commits that the database lost %d, readers that were told %d (events after it that their cursors had passed %d), "+
			"not told because no server could know %d (events that they missed %d), delivered though lost, by servers that had not met the new primary %d\n",
			r.failovers, v.LostByDatabase, v.Told, v.Skipped, v.Unknowable, v.Overtaken, v.StaleBefore)
	}
	printf("\n| Fault | Times | First commit after it: median, longest | Delivered after that: median, longest |\n|---|---|---|---|\n")
	byName := map[string][]fallen{}
	for _, f := range r.fallen {
		byName[f.name] = append(byName[f.name], f)
	}
	for _, f := range slices.Concat(faults, []fault{{name: togetherName}, {name: failoverName}}) {
		was := byName[f.name]
		if len(was) == 0 {
			continue
		}
		var commits, deliveries []time.Duration
		for _, one := range was {
			if one.err != nil {
				continue
			}
			_, longest := one.recovery.slowest()
			commits, deliveries = append(commits, one.recovery.database), append(deliveries, longest)
		}
		printf("| %s | %d | %s | %s |\n", f.name, len(was), spread(commits), spread(deliveries))
	}
	for _, w := range r.without {
		printf("not made: %s\n", w)
	}
	if r.beside != "" {
		printf("\nbeside us, %s\n", r.beside)
	}
	printf("\n%d violations\n", len(r.found))
	for i, v := range r.found {
		if i == 30 {
			printf("  and %d more\n", len(r.found)-i)
			break
		}
		printf("  %s\n", strings.TrimSpace(v))
	}
}

func spread(list []time.Duration) string {
	if len(list) == 0 {
		return "never"
	}
	slices.SortFunc(list, cmp.Compare[time.Duration])
	return fmt.Sprintf("%.2f s, %.2f s", list[len(list)/2].Seconds(), list[len(list)-1].Seconds())
}
