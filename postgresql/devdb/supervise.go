package devdb

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// jobVariable marks a supervisor and tells it what to do.
const jobVariable = "EVENT_PIPER_DEVELOPMENT_POSTGRESQL"

// abandonAfter bounds how long a start that nobody waits for any more may take to end in order, so
// that a download that hangs does not keep an orphaned supervisor alive.
const abandonAfter = 30 * time.Second

var supervises atomic.Bool

// Supervise must be called first thing in main, before flags are parsed or anything is started, by
// every program that uses this package. It returns at once, unless the process is the supervisor of a
// server, which does its work in this call and exits.
func Supervise() {
	supervises.Store(true)
	encoded := os.Getenv(jobVariable)
	if encoded == "" {
		return
	}
	_ = os.Unsetenv(jobVariable)
	out := json.NewEncoder(os.Stdout)
	if err := supervise([]byte(encoded), out); err != nil {
		_ = out.Encode(reply{Error: oneLine(err)})
		os.Exit(1)
	}
	os.Exit(0)
}

func supervise(encoded []byte, out *json.Encoder) error {
	// Caught rather than left to its default, which would end the supervisor, and leave the server
	// behind, when it answers a program that has died.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	adopt()

	var j job
	if err := json.Unmarshal(encoded, &j); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	commands := make(chan string)
	go func() {
		defer close(commands) // the program has let go of the pipe
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			commands <- lines.Text()
		}
	}()

	c, err := newCluster(j)
	if err != nil {
		return err
	}
	defer c.remove()
	started := make(chan error, 1)
	go func() { started <- c.create() }()
	select {
	case err = <-started:
	case <-commands:
		err = c.abandon(started)
	case <-signals:
		err = c.abandon(started)
	}
	if err != nil {
		return err
	}

	_ = out.Encode(reply{Port: c.port})
	for {
		select {
		case command, ok := <-commands:
			if !ok {
				return c.stop("fast")
			}
			var r reply
			if err := c.do(command); err != nil {
				r.Error = oneLine(err)
			}
			_ = out.Encode(r)
		case <-signals:
			return c.stop("fast")
		}
	}
}

// abandon waits for the end of a start that nobody wants any more, and undoes it.
func (c *cluster) abandon(started <-chan error) error {
	select {
	case err := <-started:
		if err != nil {
			return err
		}
		if err := c.stop("fast"); err != nil {
			return err
		}
		return fmt.Errorf("start was given up")
	case <-time.After(abandonAfter):
		return fmt.Errorf("start was given up while it did not end")
	}
}

func (c *cluster) do(command string) error {
	switch command {
	case "halt fast":
		return c.stop("fast")
	case "halt immediate":
		return c.stop("immediate")
	case "resume":
		return c.start()
	}
	return fmt.Errorf("unknown command %q", command)
}
