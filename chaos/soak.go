package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/chaos/check"
)

// soak runs for long without a fault, with clients and consumers that come and go and with retention, and looks for what
// grows: it plots it, and is an error if something does.
func soak(ctx context.Context, bin, dir string, o options) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // PostgreSQL's user has to pass
		return err
	}
	w, err := newWorld(ctx, bin, dir)
	if err != nil {
		return err
	}
	defer w.close()
	fmt.Printf("soak for %v with seed %d: %d writers, %d sessions at a time\n", o.length, o.seed, o.writers, o.readers)
	ctx, over := context.WithTimeout(ctx, o.length)
	defer over()
	s := &soaking{world: w, options: o, lines: map[string]*line{}}
	var running sync.WaitGroup
	defer running.Wait()
	for i := range o.writers {
		running.Go(func() { s.write(ctx, i) })
	}
	for i := range o.readers {
		running.Go(func() { s.churn(ctx, i) })
	}
	running.Go(func() { s.prune(ctx) })
	s.sample(ctx, max(o.length/200, time.Second))
	running.Wait()
	fmt.Printf("%d events inserted, %d sessions of %d consumers, %d deliveries\n",
		s.inserted.Load(), s.sessions.Load(), s.consumers.Load(), s.delivered.Load())
	path := filepath.Join(o.plots, "soak.png")
	return errors.Join(plotLines(path, s.lines), s.judge(path))
}

// soaking is a soak under way.
type soaking struct {
	world   *world
	options options
	began   time.Time
	lines   map[string]*line // owned by sample

	inserted, sessions, consumers, delivered atomic.Int64
}

// crowd is how many consumers there are at a time. They are exchanged all the time.
const crowd = 50

func (s *soaking) consumer(n int64) string {
	s.consumers.Store(max(s.consumers.Load(), n/20+crowd))
	return fmt.Sprint("consumer-", n/20+n%crowd)
}

func (s *soaking) write(ctx context.Context, i int) {
	draw := random(s.options.seed, uint64(100+i)) //nolint:gosec // small
	conn, err := s.world.database.connect(ctx, "soak")
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for ctx.Err() == nil {
		n := 1 + draw.IntN(5)
		_, err := conn.Exec(ctx, `insert into events (type, subscriber, payload)
			select 'soak', $1, json_build_object('token', 'soak', 'text', repeat('x', $2)) from generate_series(1, $3)`,
			s.consumer(s.sessions.Load()), draw.IntN(2000), n)
		if err == nil {
			s.inserted.Add(int64(n))
		}
		_ = sleep(ctx, between(draw, 0, 2*s.options.pause))
	}
}

// churn has one session after the other, each of another consumer and for a few seconds.
func (s *soaking) churn(ctx context.Context, i int) {
	draw := random(s.options.seed, uint64(1000+i)) //nolint:gosec // small
	for ctx.Err() == nil {
		n := s.sessions.Add(1)
		history := &check.Reader{}
		r := newReader(history, s.consumer(n), draw, new(ends), s.world.targets...)
		r.received = func(*check.Message) { s.delivered.Add(1) }
		if draw.IntN(3) > 0 {
			r.cursor = check.FromNow
		}
		short, cancel := context.WithTimeout(ctx, between(draw, 100*time.Millisecond, 10*time.Second))
		r.run(short)
		cancel()
	}
}

// prune is retention, with half a minute.
func (s *soaking) prune(ctx context.Context) {
	for ctx.Err() == nil {
		_ = sleep(ctx, 5*time.Second)
		_ = s.world.database.exec(ctx, `delete from events where "timestamp" < now() - interval '30 seconds'`)
	}
}

func (s *soaking) sample(ctx context.Context, every time.Duration) {
	s.began = time.Now()
	for ctx.Err() == nil {
		for _, p := range s.world.programs {
			s.sampleProcesses(p.name, p.pid())
			s.sampleGoroutines(ctx, p)
		}
		for _, l := range s.world.lambdas {
			s.sampleProcesses(l.name, l.pids()...)
		}
		s.sampleLoad()
		_ = s.world.database.query(ctx, func(ctx context.Context, c *pgx.Conn) error {
			var connections, dead float64
			err := c.QueryRow(ctx, `select (select count(*) from pg_stat_activity where application_name like 'event-piper%'),
				(select sum(n_dead_tup) from pg_stat_user_tables where relname like 'events%')`).Scan(&connections, &dead)
			if err == nil {
				s.add("database connections", "all", connections)
				s.add("dead tuples", "events", dead)
			}
			return err
		})
		_ = sleep(ctx, every)
	}
}

// sampleProcesses looks at the largest of the processes, of which a function has some.
func (s *soaking) sampleProcesses(whose string, pids ...int) {
	var memory, descriptors float64
	for _, pid := range pids {
		status, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		if _, rest, found := strings.Cut(string(status), "VmRSS:"); found {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			memory = max(memory, kb/1024)
		}
		files, _ := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
		descriptors = max(descriptors, float64(len(files)))
	}
	if memory == 0 { // none was there
		return
	}
	s.add("resident memory, MB", whose, memory)
	s.add("descriptors", whose, descriptors)
}

// sampleLoad notes how busy the machine is, which tells how far the rest can be trusted.
func (s *soaking) sampleLoad() {
	content, _ := os.ReadFile("/proc/loadavg")
	minute, _, _ := strings.Cut(string(content), " ")
	if n, err := strconv.ParseFloat(minute, 64); err == nil {
		s.add(machineLoad, "the machine", n)
	}
}

const machineLoad = "load"

func (s *soaking) sampleGoroutines(ctx context.Context, p *program) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/metrics", nil)
	if err != nil {
		return
	}
	response, err := healthClient.Do(q)
	if err != nil {
		return
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	if _, rest, found := strings.Cut(string(body), "\ngo_goroutines "); found {
		number, _, _ := strings.Cut(rest, "\n")
		if n, err := strconv.ParseFloat(number, 64); err == nil {
			s.add("goroutines", p.name, n)
		}
	}
}

func (s *soaking) add(what, whose string, value float64) {
	key := what + "\x00" + whose
	if s.lines[key] == nil {
		s.lines[key] = &line{what: what, whose: whose}
	}
	s.lines[key].at = append(s.lines[key].at, time.Since(s.began).Seconds())
	s.lines[key].value = append(s.lines[key].value, value)
}

// judge says what grows: what its line of best fit gains, over the last two thirds of the run, by more than a quarter of its
// mean and by more than it may gain in any case.
func (s *soaking) judge(plotted string) error {
	may := map[string]float64{
		"resident memory, MB": 8, "goroutines": 20, "descriptors": 20, "database connections": 4, "dead tuples": 50_000,
		machineLoad: math.Inf(1), // others' as well
	}
	var grown []string
	fmt.Printf("\n| What | Of | Mean | Gain over the last two thirds |\n|---|---|---|---|\n")
	for _, l := range sorted(s.lines) {
		mean, gain := l.trend()
		fmt.Printf("| %s | %s | %.1f | %+.1f |\n", l.what, l.whose, mean, gain)
		if gain > may[l.what] && gain > mean/4 {
			grown = append(grown, fmt.Sprintf("%s of %s", l.what, l.whose))
		}
	}
	fmt.Printf("plotted in %s\n", plotted)
	if len(grown) > 0 {
		return fmt.Errorf("it grows: %s", strings.Join(grown, ", "))
	}
	return nil
}
