package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

var (
	bothWays = []string{"upstream", "downstream"}
	anyWay   = [][]string{{"upstream"}, {"downstream"}, bothWays}
)

func (w *world) anyLink(r *rand.Rand) *link { return w.links.all[pick(r, w.links.names)] }

// toxic poisons a link for a few seconds.
func toxic(name string, attributes func(r *rand.Rand) map[string]any) func(context.Context, *world, *rand.Rand) (string, error) {
	return func(ctx context.Context, w *world, r *rand.Rand) (string, error) {
		k, directions := w.anyLink(r), pick(r, anyWay)
		with := attributes(r)
		on := fmt.Sprintf("%s %v %v", k.name, directions, with)
		if err := k.poison(name, directions, with); err != nil {
			return on, err
		}
		_ = sleep(ctx, between(r, time.Second, 6*time.Second))
		return on, k.heal(ctx)
	}
}

// blackHole swallows what is sent, for longer than any timeout of a client or of a server: connections stay open, and
// nobody is told.
func blackHole(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	k, directions := w.anyLink(r), pick(r, anyWay)
	on := fmt.Sprintf("%s %v", k.name, directions)
	if err := k.poison("timeout", directions, map[string]any{"timeout": 0}); err != nil {
		return on, err
	}
	_ = sleep(ctx, between(r, 2*time.Second, 15*time.Second))
	return on, k.heal(ctx)
}

func linkDown(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	k := w.anyLink(r)
	k.cut()
	_ = sleep(ctx, between(r, 500*time.Millisecond, 5*time.Second))
	return k.name + " both ways", k.heal(ctx)
}
