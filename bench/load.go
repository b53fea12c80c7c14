//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// generator is the load generator as the one who gives it orders sees it.
type generator struct {
	cmd     *exec.Cmd
	orders  io.WriteCloser
	answers *json.Decoder
}

func startGenerator(ctx context.Context) (*generator, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "load")
	cmd.Stderr = os.Stderr
	orders, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the load generator: %w", err)
	}
	return &generator{cmd, orders, json.NewDecoder(answers)}, nil
}

func (g *generator) stop() {
	_ = g.orders.Close()
	_ = g.cmd.Wait() // what went wrong it has said
}

// do gives an order and waits until it has been carried out.
func (g *generator) do(o order) (*answer, error) {
	if o.Within == 0 {
		o.Within = time.Minute
	}
	if err := json.NewEncoder(g.orders).Encode(o); err != nil {
		return nil, fmt.Errorf("load generator: %w", err)
	}
	var a answer
	if err := g.answers.Decode(&a); err != nil {
		return nil, fmt.Errorf("load generator: %s: %w", o.Do, err)
	}
	if a.Error != "" {
		return &a, errors.New("load generator: " + o.Do + ": " + a.Error)
	}
	return &a, nil
}

// open opens the connections of a group and fails unless all of them are.
func (g *generator) open(o order) (*answer, error) {
	o.Do = "open"
	if o.Dialing == 0 {
		o.Dialing = 256
	}
	a, err := g.do(o)
	if err == nil && a.Open < o.Sessions {
		err = fmt.Errorf("only %d of %d sessions opened within %s", a.Open, o.Sessions, time.Minute)
	}
	return a, err
}

// await waits until a group has so many events since it was opened, or the server has ended one of its connections.
func (g *generator) await(group int, events int64, within time.Duration) (*answer, error) {
	return g.do(order{Do: "await", Group: group, Events: events, Within: within})
}

// awaitEach waits until every connection of group 0 has an event with an id or a higher one.
func (g *generator) awaitEach(id int64, within time.Duration) (*answer, error) {
	a, err := g.do(order{Do: "await", ID: id, Within: within})
	if err == nil && a.Behind > 0 {
		err = fmt.Errorf("%w: %d sessions have not got theirs within %s", errIncomplete, a.Behind, within)
	}
	return a, err
}

// report returns what a group has seen since the last report and begins to count anew.
func (g *generator) report(group int) (*answer, error) {
	return g.do(order{Do: "report", Group: group})
}

func (g *generator) close(group int) error {
	_, err := g.do(order{Do: "close", Group: group})
	return err
}
