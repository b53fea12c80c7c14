package coretest

import (
	"context"

	"github.com/event-piper/event-piper/core"
)

// Harness is a store, and the table that it reads.
type Harness struct {
	core.Store
	Table
}

// Table is written by tests.
type Table interface {
	Begin(ctx context.Context) (Transaction, error)
	// Delete deletes a consumer's events up to and including an id, as retention does.
	Delete(ctx context.Context, consumer string, through int64) error
	// Redact empties an event's payload and inserts the event that tells, in one transaction.
	Redact(ctx context.Context, id int64) error
}

// Transaction inserts events. It is used by one goroutine, and ended by Commit or Rollback.
type Transaction interface {
	Insert(ctx context.Context, consumer, typ, payload string) (id int64, err error)
	// Amend inserts an event that amends an earlier one.
	Amend(ctx context.Context, consumer, typ, payload string, amends int64) (id int64, err error)
	Savepoint(ctx context.Context) error
	// RollbackTo takes back what was done since the newest savepoint, and the savepoint.
	RollbackTo(ctx context.Context) error
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

// Harness returns the store with the table that it is.
func (s *Store) Harness() Harness { return Harness{s, table{s}} }

type table struct{ *Store }

func (t table) Begin(context.Context) (Transaction, error) { return transaction{t.Store.Begin()}, nil }

func (t table) Delete(_ context.Context, consumer string, through int64) error {
	t.Store.Delete(consumer, through)
	return nil
}

func (t table) Redact(_ context.Context, id int64) error {
	t.Store.Redact(id)
	return nil
}

type transaction struct{ *Tx }

func (tx transaction) Amend(_ context.Context, consumer, typ, payload string, amends int64) (int64, error) {
	return tx.Tx.Amend(consumer, typ, payload, amends), nil
}

func (tx transaction) Insert(_ context.Context, consumer, typ, payload string) (int64, error) {
	return tx.Tx.Insert(consumer, typ, payload), nil
}

func (tx transaction) Savepoint(context.Context) error  { tx.Tx.Savepoint(); return nil }
func (tx transaction) RollbackTo(context.Context) error { tx.Tx.RollbackTo(); return nil }
func (tx transaction) Commit(context.Context) error     { tx.Tx.Commit(); return nil }
func (tx transaction) Rollback(context.Context) error   { tx.Tx.Rollback(); return nil }
