package postgresql

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// always are the run-time parameters that every statement here relies on, whatever the database, the role or the DSN say.
var always = []parameter{
	// Each statement of a read must see what committed before it: at any other level the watermark would be computed
	// beside a snapshot that is older than it.
	{"default_transaction_isolation", "read committed"},
	// A policy that would hide events makes an error of the read instead.
	{"row_security", "off"},
	// To compile what looks expensive, as everything does where planner settings are odd, takes seconds; no statement here runs for so long.
	{"jit", "off"},
}

// patient are those that a role or a database may have for people and applications. Reads have deadlines of their own, and
// what follows idles by design.
var patient = []parameter{
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
}

const (
	// minServerVersion is what idle_session_timeout came with, and transactionTimeoutVersion what transaction_timeout did.
	minServerVersion          = 140000
	transactionTimeoutVersion = 170000
)

var errStandby = errors.New(
	"the server is a hot standby, which has no LISTEN, lags behind, and does not see the writers' locks: " +
		"connect to the primary; with several hosts in DATABASE_URL, add target_session_attrs=primary")

// server is what is at the other end of a connection.
type server struct {
	version int
	// shared reports that a pooler is between, which may give each transaction another of its own connections.
	shared bool
	// database tells databases apart: when the server was started, and the number of the database in it.
	database string
}

// connect connects to a server that can keep the promise of order.
func (t *target) connect(ctx context.Context) (*pgx.Conn, server, error) {
	conn, err := open(ctx, t.ConnConfig, t.login)
	if err != nil {
		return nil, server{}, fmt.Errorf("connect to PostgreSQL: %w", discreet(err))
	}
	s, err := identify(ctx, conn)
	if err != nil {
		closeConn(conn)
		return nil, s, err
	}
	return conn, s, nil
}

// identify asks what a new connection leads to, without anything that a pooler might hand to the next client.
func identify(ctx context.Context, conn *pgx.Conn) (s server, err error) {
	var standby bool
	var pid uint32
	var encoding string
	err = conn.QueryRow(ctx, `select pg_catalog.current_setting('server_version_num')::pg_catalog.int4, pg_catalog.pg_is_in_recovery(),
		pg_catalog.pg_backend_pid(), pg_catalog.getdatabaseencoding(),
		pg_catalog.concat(extract(epoch from pg_catalog.pg_postmaster_start_time()), '/',
			(select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))`, pgx.QueryExecModeSimpleProtocol).
		Scan(&s.version, &standby, &pid, &encoding, &s.database)
	switch {
	case err != nil:
		return s, fmt.Errorf("ask what the server is: %w", err)
	case s.version < minServerVersion:
		return s, fmt.Errorf("the server is PostgreSQL %d, which is older than %d", s.version/10000, minServerVersion/10000)
	case standby:
		return s, errStandby
	case encoding != "UTF8":
		return s, fmt.Errorf("the database's encoding is %s, which cannot hold every event: create one with "+
			"`create database … encoding 'UTF8' template template0`, and move the data there by pg_dump", encoding)
	}
	// A pooler makes up a process id for its clients.
	s.shared = pid != conn.PgConn().PID()
	return s, nil
}

// setUp sets what reads rely on for the length of a session, which the connection must be.
func (t *target) setUp(ctx context.Context, conn *pgx.Conn, s server, more ...parameter) error {
	parameters := append([]parameter{}, patient...)
	if s.version >= transactionTimeoutVersion {
		parameters = append(parameters, parameter{"transaction_timeout", "0"})
	}
	parameters = append(parameters, t.asked...)
	parameters = append(parameters, always...)
	return set(ctx, conn, append(parameters, more...), false)
}

// set sets run-time parameters, for a transaction or for the session.
func set(ctx context.Context, conn *pgx.Conn, parameters []parameter, transaction bool) error {
	names, values := make([]string, len(parameters)), make([]string, len(parameters))
	for i, p := range parameters {
		names[i], values[i] = p.name, p.value
	}
	// Functions are built without pgx's list of which Go type is which of PostgreSQL's, and the server is not asked here.
	conn.TypeMap().RegisterDefaultPgType(names, "_text")
	conn.TypeMap().RegisterDefaultPgType(transaction, "bool")
	_, err := conn.Exec(ctx, `select pg_catalog.set_config(name, value, $3::pg_catalog.bool)
		from rows from (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) as p (name, value)`,
		pgx.QueryExecModeExec, names, values, transaction)
	if err != nil {
		return fmt.Errorf("set the session's parameters: %w", err)
	}
	return nil
}

// sharedKey is where a connection remembers its target if the connection is shared.
const sharedKey = "event-piper shared"

func share(conn *pgx.Conn, t *target) { conn.PgConn().CustomData()[sharedKey] = t }

// sendRead sends statements that read. Over a shared connection they are a transaction that says itself what a session of
// our own would have been told.
func sendRead(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch) error {
	t, shared := conn.PgConn().CustomData()[sharedKey].(*target)
	if !shared {
		return conn.SendBatch(ctx, batch).Close()
	}
	_, err := conn.Exec(ctx, "begin isolation level read committed", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return err
	}
	if err := set(ctx, conn, append(append([]parameter{{"statement_timeout", "0"}}, t.asked...), always[1:]...), true); err != nil {
		return err
	}
	batch.Queue("commit")
	return conn.SendBatch(ctx, batch).Close()
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // there is nothing left to do with a connection that cannot say goodbye
}
