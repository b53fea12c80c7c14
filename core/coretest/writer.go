package coretest

import (
	"context"
	"testing"
)

// writer writes for one test. Its methods end the test on errors.
type writer struct {
	*testing.T
	Table
	ctx context.Context
}

func (w *writer) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *writer) begin() Transaction {
	w.Helper()
	tx, err := w.Begin(w.ctx)
	w.ok(err)
	return tx
}

func (w *writer) insertInto(tx Transaction, consumer, payload string) int64 {
	w.Helper()
	id, err := tx.Insert(w.ctx, consumer, "insert", payload)
	w.ok(err)
	return id
}

// insert commits events of a consumer in one transaction.
func (w *writer) insert(consumer string, payloads ...string) (ids []int64) {
	w.Helper()
	tx := w.begin()
	for _, payload := range payloads {
		ids = append(ids, w.insertInto(tx, consumer, payload))
	}
	w.ok(tx.Commit(w.ctx))
	return ids
}

// insertMeanwhile commits an event of a consumer from a goroutine of its own, and tells its id when it has. It may not
// end the test from there: a failure shows as an event that does not come.
func (w *writer) insertMeanwhile(consumer string) <-chan int64 {
	inserted := make(chan int64, 1)
	go func() {
		tx, err := w.Begin(w.ctx)
		if err != nil {
			inserted <- -1
			return
		}
		id, _ := tx.Insert(w.ctx, consumer, "insert", `{}`)
		_ = tx.Commit(w.ctx)
		inserted <- id
	}()
	return inserted
}

// fewRare inserts so many events that one read does not look at them all, and returns those of the type "rare".
func (w *writer) fewRare() (rare []int64) {
	w.Helper()
	tx := w.begin()
	for i := range 1500 {
		typ := "common"
		if i%300 == 299 {
			typ = "rare"
		}
		id, err := tx.Insert(w.ctx, "toto", typ, `1`)
		w.ok(err)
		if typ == "rare" {
			rare = append(rare, id)
		}
	}
	w.ok(tx.Commit(w.ctx))
	return rare
}
