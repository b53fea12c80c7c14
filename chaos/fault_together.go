package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
)

// togetherName is what two faults at a time are called in the table.
const togetherName = "two at a time"

// another draws a fault that can be made at the same time.
func another(f fault, list []fault, r *rand.Rand) fault {
	for {
		if other := choose(list, r); !other.whole || !f.whole {
			return other
		}
	}
}

// beside is both faults at the same time. What one of them cannot do because of the other, such as a statement in a
// database that is away, is said and is no error. All is mended when both have ended.
func (f fault) beside(other fault) fault {
	return fault{name: togetherName, run: func(ctx context.Context, w *world, r *rand.Rand) (string, error) {
		seeds := [2]uint64{r.Uint64(), r.Uint64()}
		var on [2]string
		var making sync.WaitGroup
		for i, one := range []fault{f, other} {
			making.Go(func() {
				what, err := one.run(ctx, w, random(seeds[i], 1))
				on[i] = fmt.Sprintf("%s: %s ", one.name, what)
				if err != nil {
					on[i] += fmt.Sprintf("(%v) ", err)
				}
			})
		}
		making.Wait()
		return on[0] + "+ " + on[1], errors.Join(w.mend(ctx), w.mendDatabase(ctx))
	}}
}

// mendDatabase has the database run, and wait for nobody, whatever two faults have left.
func (w *world) mendDatabase(ctx context.Context) error {
	if w.database.postmaster() == 0 {
		if err := w.database.server.Restart(false); err != nil {
			return fmt.Errorf("start PostgreSQL: %w", err)
		}
	}
	if err := w.database.awaitUp(ctx); err != nil {
		return err
	}
	return errors.Join(
		w.database.exec(ctx, "set synchronous_commit = local"),
		w.database.exec(ctx, "alter system reset synchronous_standby_names"),
		w.database.exec(ctx, "select pg_reload_conf()"),
		w.database.exec(ctx, "drop index if exists chaos_index"),
	)
}
