//go:build linux

package main

import (
	"context"
	_ "embed"
	"fmt"
	"net/url"
	"os"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/postgresql/devdb"
	"github.com/event-piper/event-piper/postgresql/migrations"
)

// parameters make the server durable, as in production, where a commit waits for the disk and a notifying
// one keeps all others waiting meanwhile; and keep its own housekeeping out of short runs.
var parameters = map[string]string{
	"fsync":              "on",
	"full_page_writes":   "on",
	"synchronous_commit": "on",
	"shared_buffers":     "512MB",
	"max_wal_size":       "8GB",
	"checkpoint_timeout": "1h",
}

// database is a PostgreSQL server with a template database for each way to write events.
type database struct {
	server     *devdb.Server
	admin      *pgx.Conn
	postmaster int
	version    string
	copies     int
}

// templates are the schemas that runs get copies of: ours, the same without the trigger of writers, the same columns
// with nothing to them, and two that always notify. Each SQL is run in a new database.
//
//go:embed testdata/bare.sql
var bareSQL string

//go:embed testdata/row_trigger.sql
var rowTriggerSQL string

//go:embed testdata/statement_trigger.sql
var statementTriggerSQL string

func startDatabase(ctx context.Context) (*database, error) {
	server, err := devdb.Start(ctx, devdb.Options{Parameters: parameters})
	if err != nil {
		return nil, err
	}
	d := &database{server: server}
	if err := d.prepare(ctx); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

func (d *database) prepare(ctx context.Context) (err error) {
	if d.admin, err = pgx.Connect(ctx, d.server.DSN()); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	var backend int
	err = d.admin.QueryRow(ctx, "select pg_backend_pid(), current_setting('server_version')").Scan(&backend, &d.version)
	if err != nil {
		return err
	}
	stat, err := readStat(backend)
	if err != nil {
		return fmt.Errorf("find the postmaster: %w", err)
	}
	d.postmaster = stat.parent
	for name, sql := range map[string]string{
		"bare": bareSQL, "row_trigger": bareSQL + rowTriggerSQL, "statement_trigger": bareSQL + statementTriggerSQL,
	} {
		if err := d.create(ctx, name, "template0"); err != nil {
			return err
		}
		if err := execute(ctx, d.dsn(name), sql); err != nil {
			return fmt.Errorf("create the schema %s: %w", name, err)
		}
	}
	if err := d.create(ctx, ours, "template0"); err != nil {
		return err
	}
	if _, _, err := migrations.Apply(ctx, d.dsn(ours), nil); err != nil {
		return err
	}
	if err := d.create(ctx, "untriggered", ours); err != nil {
		return err
	}
	return execute(ctx, d.dsn("untriggered"), "drop trigger events_before_insert on events")
}

const ours = "ours"

func (d *database) create(ctx context.Context, name, template string) error {
	_, err := d.admin.Exec(ctx, "create database "+name+" template "+template)
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// copy makes a database like a template and returns its URL. What earlier runs have left to write is written
// first.
func (d *database) copy(ctx context.Context, template string) (string, error) {
	d.copies++
	name := fmt.Sprintf("run_%d", d.copies)
	if err := d.create(ctx, name, template); err != nil {
		return "", err
	}
	_, err := d.admin.Exec(ctx, "checkpoint")
	return d.dsn(name), err
}

// drop removes a copy, and with it the connections that it still has.
func (d *database) drop(ctx context.Context, dsn string) error {
	u, err := url.Parse(dsn)
	if err != nil {
		return err
	}
	_, err = d.admin.Exec(ctx, "drop database "+strings.Trim(u.Path, "/")+" with (force)")
	return err
}

func (d *database) dsn(name string) string {
	u, _ := url.Parse(d.server.DSN()) // devdb makes it
	u.Path = "/" + name
	return u.String()
}

func (d *database) stop() {
	if err := d.server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// settings are the parameters that differ from PostgreSQL's own, in one line.
func (d *database) settings() string {
	var list []string
	for name, value := range parameters {
		list = append(list, name+"="+value)
	}
	sort.Strings(list)
	return strings.Join(list, " ")
}

func execute(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}
