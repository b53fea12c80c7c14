package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// readers are the programs that read with a client module.
type readers struct {
	proxy    *proxy
	programs []*program

	mu sync.Mutex
	// Guarded by mu.
	all   []*reader // in the order in which they were first heard of
	wrong []string
}

type program struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	several bool // it named a reader of its own
	done    chan struct{}
}

// reader is one subscription. Its fields are guarded by readers.mu.
type reader struct {
	name  string
	of    *program
	start int64 // where it started, -1 until it has said so
	ended bool
	got   []row
}

// line is what a reader prints.
type line struct {
	Reader string
	Start  *int64
	End    bool
	Reset  json.RawMessage
	Failed string
	row
}

func newReaders(p *proxy) *readers { return &readers{proxy: p} }

func (rs *readers) start(name string, command []string, url string) error {
	p := &program{name: name, cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{})} //nolint:gosec // the caller names it
	p.cmd.Env = append(os.Environ(), "EVENT_PIPER_URL="+url, "READER="+name)
	if dir := os.Getenv("FAULTS_LOG"); dir != "" {
		log, err := os.Create(dir + "/" + name + ".log") //nolint:gosec // the caller names it
		if err != nil {
			return err
		}
		p.cmd.Stderr = log
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	rs.programs = append(rs.programs, p)
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			rs.take(p, lines.Bytes())
		}
		_ = p.cmd.Wait()
	}()
	return nil
}

func (rs *readers) take(p *program, text []byte) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var l line
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&l); err != nil {
		rs.wrong = append(rs.wrong, fmt.Sprintf("%s: %q is no line of JSON", p.name, text))
		return
	}
	if l.Reader != "" && l.Reader != p.name {
		p.several = true
	} else {
		l.Reader = p.name
	}
	r := rs.named(l.Reader, p)
	switch {
	case l.Start != nil:
		r.start = *l.Start
	case l.End:
		r.ended = true
	case l.Reset != nil:
		rs.wrong = append(rs.wrong, fmt.Sprintf("%s: reset %s", r.name, l.Reset))
	case l.Failed != "":
		rs.wrong = append(rs.wrong, fmt.Sprintf("%s: %s", r.name, l.Failed))
	case l.ID > 0:
		r.got = append(r.got, l.row)
	}
}

func (rs *readers) named(name string, p *program) *reader {
	for _, r := range rs.all {
		if r.name == name {
			return r
		}
	}
	r := &reader{name: name, of: p, start: -1}
	rs.all = append(rs.all, r)
	return r
}

// exchange asks those that can to close a reader and to open another.
func (rs *readers) exchange() error {
	for _, p := range rs.programs {
		if p.several {
			if _, err := io.WriteString(p.stdin, "exchange\n"); err != nil {
				return err
			}
		}
	}
	return nil
}

// await waits until a condition of the readers holds.
func (rs *readers) await(ctx context.Context, what string, holds func() bool) error {
	for range 1800 {
		if holds() {
			return nil
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("within three minutes it has not come about that %s: %s", what, rs.describe())
}

func (rs *readers) describe() string {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	text := ""
	for _, r := range rs.all {
		text += fmt.Sprintf("%s started at %d, has %d events, %+v; ", r.name, r.start, len(r.got), rs.proxy.traffic(r.name))
	}
	return fmt.Sprint(text, rs.wrong)
}

// started reports whether every program has a reader that knows where it starts, and one with tabs two.
func (rs *readers) started() bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	count := map[*program]int{}
	for _, r := range rs.all {
		if r.start >= 0 {
			count[r.of]++
		}
	}
	for _, p := range rs.programs {
		if want := 1; count[p] < want || p.several && count[p] < want+1 {
			return false
		}
	}
	return true
}

// streaming reports whether every program has one stream open: one alone, even if it has several readers.
func (rs *readers) streaming() bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	open := map[*program]int{}
	for _, r := range rs.all {
		open[r.of] += rs.proxy.traffic(r.name).open
	}
	for _, p := range rs.programs {
		if open[p] != 1 {
			return false
		}
	}
	return true
}

// reached reports whether every reader that has not ended was handed the event.
func (rs *readers) reached(id int64) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.all {
		if !r.ended && (len(r.got) == 0 || r.got[len(r.got)-1].ID < id) {
			return false
		}
	}
	return true
}

func (rs *readers) stop() {
	for _, p := range rs.programs {
		_ = p.stdin.Close()
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range rs.programs {
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
}
