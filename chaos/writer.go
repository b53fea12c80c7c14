package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/event-piper/event-piper/chaos/check"
)

// writer is an application that inserts events in all the ways in which one can, one after the other, and goes on
// after an error with a new connection.
type writer struct {
	// set at construction
	name      string
	dsn       string
	database  *database
	record    *record
	addresses []string
	hurried   *atomic.Bool // a statement timeout that few statements meet
	pooled    bool         // by PgBouncer in transaction mode
	pause     time.Duration

	// owned by run
	random *rand.Rand
	conn   *pgx.Conn
	tokens int
}

// opTimeout is how long a writer waits for an answer before it gives up its connection.
const opTimeout = 15 * time.Second

func (w *writer) run(ctx context.Context) {
	defer w.disconnect()
	for ctx.Err() == nil {
		if err := w.turn(ctx); err != nil {
			w.disconnect()
			_ = sleep(ctx, w.upTo(200*time.Millisecond))
		}
		_ = sleep(ctx, w.upTo(2*w.pause))
	}
}

func (w *writer) upTo(d time.Duration) time.Duration {
	return time.Duration(w.random.Int64N(int64(d) + 1))
}

// turn makes one transaction. It outlives ctx, which only ends the connecting: a transaction that was begun is ended.
func (w *writer) turn(ctx context.Context) error {
	if w.conn == nil {
		connecting, cancel := context.WithTimeout(ctx, opTimeout)
		defer cancel()
		config, err := pgx.ParseConfig(w.dsn)
		if err != nil {
			return err
		}
		// PgBouncer in transaction mode keeps no prepared statements.
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		config.RuntimeParams["application_name"] = "chaos " + w.name
		if w.conn, err = pgx.ConnectConfig(connecting, config); err != nil {
			w.conn = nil
			return err
		}
	}
	transaction, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
	defer cancel()
	way := w.choose()
	return way.run(w, transaction)
}

func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx)
	w.conn = nil
}

// way is one way to write events.
type way struct {
	name   string
	weight int
	since  int  // the first server_version_num that has it
	direct bool // not by a pooler
	run    func(w *writer, ctx context.Context) error
}

var ways = []way{
	{name: "single", weight: 10, run: (*writer).single},
	{name: "many rows", weight: 4, run: (*writer).rows},
	{name: "many statements", weight: 6, run: (*writer).statements},
	{name: "savepoints", weight: 6, run: (*writer).savepoints},
	{name: "rollback", weight: 4, run: (*writer).rollback},
	{name: "two-phase commit", weight: 4, run: (*writer).twoPhase},
	{name: "COPY", weight: 3, run: (*writer).copy},
	{name: "held open", weight: 2, run: (*writer).hold},
	{name: "serializable", weight: 4, run: (*writer).serializable},
	{name: "MERGE", weight: 3, since: 150000, run: (*writer).merge},
	{name: "CTE", weight: 4, run: (*writer).cte},
	{name: "deferred trigger", weight: 4, run: (*writer).deferred},
	{name: "setval", weight: 1, direct: true, run: (*writer).setval},
}

func (w *writer) choose() way {
	var sum int
	for _, way := range ways {
		sum += way.weight
	}
	for {
		n := w.random.IntN(sum)
		for _, way := range ways {
			if n -= way.weight; n >= 0 {
				continue
			}
			if w.database.version >= way.since && (!way.direct || !w.pooled) {
				return way
			}
			break
		}
	}
}

// event is one to be written.
type event struct{ token, address, kind, payload string }

// kinds are types with what JSON and SSE could stumble over.
var kinds = []string{"insert", "order.created", "order.paid", `a "quoted" type`, "tÿpe: with, signs"}

// event makes one with a payload that is easily altered: its spaces, the order of its keys, its numbers and escapes.
func (w *writer) event() event {
	w.tokens++
	e := event{
		token:   fmt.Sprintf("%s.%d", w.name, w.tokens),
		address: w.addresses[w.random.IntN(len(w.addresses))],
		kind:    kinds[w.random.IntN(len(kinds))],
	}
	more := []string{
		`, "z" : 1.50 , "a":12345678901234567890123, "":null}`,
		`,"text":"<&> \u0000 \ud83d\ude00 ü \\n","list":[ 1e400, -0.0 ]}`,
		`}`,
		`,
		"lines": "\n\r"}`,
	}
	e.payload = `{"token":"` + e.token + `"`
	switch w.random.IntN(20) {
	case 0:
		e.payload += `,"long":"` + strings.Repeat("x", 1+w.random.IntN(200_000)) + `"`
	case 1, 2, 3:
		e.payload += `,"long":"` + strings.Repeat("y", 1+w.random.IntN(3000)) + `"`
	}
	e.payload += more[w.random.IntN(len(more))]
	return e
}

func (w *writer) events(n int) []event {
	list := make([]event, n)
	for i := range list {
		list[i] = w.event()
	}
	return list
}

func tokens(events []event) []string {
	list := make([]string, len(events))
	for i, e := range events {
		list[i] = e.token
	}
	return list
}

const insertSQL = `insert into events (type, "timestamp", subscriber, payload) values `

// values are the rows of an insert, with its arguments.
func values(events []event) (sql string, args []any) {
	var rows []string
	for _, e := range events {
		n := len(args)
		rows = append(rows, fmt.Sprintf("($%d, now(), $%d, $%d::json)", n+1, n+2, n+3))
		args = append(args, e.kind, e.address, e.payload)
	}
	return strings.Join(rows, ", "), args
}

// outcomeOf says what an error at the commit means: an error is a rollback, and without an answer nobody knows. A
// session that is ended while it waits for a standby has committed, in spite of its FATAL.
func outcomeOf(err error) check.Outcome {
	var answer *pgconn.PgError
	switch {
	case err == nil:
		return check.Committed
	case errors.As(err, &answer) && answer.Severity == "ERROR":
		return check.RolledBack
	}
	return check.Unknown
}

// one commits events by a single statement.
func (w *writer) one(ctx context.Context, events []event, sql string, args ...any) error {
	_, err := w.conn.Exec(ctx, sql, args...)
	w.record.wrote(outcomeOf(err), tokens(events)...)
	return err
}
