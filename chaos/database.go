package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/postgresql/devdb"
	"github.com/event-piper/event-piper/postgresql/migrations"
)

// parameters keep the server small enough to be filled and exhausted, and durable as in production.
var parameters = map[string]string{
	"max_connections":           "80",
	"max_prepared_transactions": "20",
	"max_wal_size":              "64MB",
	"min_wal_size":              "32MB",
	"shared_buffers":            "32MB",
	"synchronous_commit":        "on",
	"full_page_writes":          "on",
	"fsync":                     "on",
	"log_min_messages":          "warning",
}

// diskSize is that of the file system of the database, where one can be mounted.
const diskSize = "700m"

// database is the PostgreSQL server, with its data on a disk of its own that faults can fill.
type database struct {
	server  *devdb.Server
	version int    // as in server_version_num
	disk    string // where the file system is mounted, or empty
	data    string // PostgreSQL's data directory
	port    string
	// addresses are where to find it, and then its standby.
	addresses []string

	mu      sync.Mutex
	control *pgx.Conn // guarded by mu
}

func startDatabase(ctx context.Context, dir string) (d *database, err error) {
	d = &database{}
	place := filepath.Join(dir, "disk")
	if err := os.MkdirAll(place, 0o755); err != nil { //nolint:gosec // PostgreSQL's user has to pass
		return nil, err
	}
	// It needs root and Linux. Without it the disk cannot be filled, and nothing else changes.
	if syscall.Mount("tmpfs", place, "tmpfs", 0, "size="+diskSize) == nil {
		d.disk = place
		if err := os.Chmod(place, 0o755); err != nil { //nolint:gosec // as above
			return nil, errors.Join(err, d.unmount())
		}
	}
	d.server, err = devdb.Start(ctx, devdb.Options{DataDir: filepath.Join(place, "data"), Parameters: parameters})
	if err != nil {
		return nil, errors.Join(err, d.unmount())
	}
	if err := d.prepare(ctx); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

func (d *database) prepare(ctx context.Context) error {
	u, err := url.Parse(d.server.DSN())
	if err != nil {
		return err
	}
	d.port = u.Port()
	d.addresses = []string{d.address()}
	if _, _, err := migrations.Apply(ctx, d.server.DSN(), nil); err != nil {
		return err
	}
	return d.query(ctx, func(ctx context.Context, c *pgx.Conn) error {
		if _, err := c.Exec(ctx, tables); err != nil {
			return fmt.Errorf("create the tables of the writers: %w", err)
		}
		return c.QueryRow(ctx, "select current_setting('server_version_num')::int, current_setting('data_directory')").Scan(&d.version, &d.data)
	})
}

// tables are those of the application: its own data, a deferred trigger that makes an event of it, and what
// retention has deleted.
const tables = `
create table chaos_orders (id bigint generated always as identity, subscriber text, payload text);
create function chaos_order_event() returns trigger language plpgsql as $$ begin
	insert into events (type, subscriber, payload) values ('deferred', new.subscriber, new.payload::json);
	return null;
end $$;
create constraint trigger chaos_order_event after insert on chaos_orders
	deferrable initially deferred for each row when (new.subscriber is not null) execute function chaos_order_event();
create table chaos_counter (id int primary key, n bigint);
insert into chaos_counter select i, 0 from generate_series(1, 3) i;
create table chaos_deleted (id bigint, type text, subscriber text, payload text, deleted_at timestamptz default clock_timestamp());`

func (d *database) stop() {
	d.mu.Lock()
	if d.control != nil {
		_ = d.control.Close(context.Background())
	}
	d.mu.Unlock()
	if err := d.server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err := d.unmount(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
}

func (d *database) unmount() error {
	if d.disk == "" {
		return nil
	}
	return syscall.Unmount(d.disk, 0)
}

// dsn is the connection string by which to connect at an address, or at whichever of several takes writes.
func (d *database) dsn(addresses ...string) string {
	var hosts, ports []string
	for _, address := range addresses {
		host, port, _ := net.SplitHostPort(address) // made by us
		hosts, ports = append(hosts, host), append(ports, port)
	}
	dsn := fmt.Sprintf("host=%s port=%s user=event_piper password=event_piper dbname=event_piper sslmode=disable connect_timeout=5",
		strings.Join(hosts, ","), strings.Join(ports, ","))
	if len(addresses) > 1 {
		dsn += " target_session_attrs=read-write"
	}
	return dsn
}

// connect makes a connection past all links.
func (d *database) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(d.dsn(d.addresses...))
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = "chaos " + name
	return pgx.ConnectConfig(ctx, config)
}

func (d *database) address() string { return net.JoinHostPort("127.0.0.1", d.port) }

// query runs something on the harness's own connection, which is made anew when it has been lost. It is one that
// faults spare, and takes no longer than ten seconds.
func (d *database) query(ctx context.Context, run func(context.Context, *pgx.Conn) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if d.control == nil || d.control.Ping(ctx) != nil {
		if d.control != nil {
			_ = d.control.Close(ctx)
		}
		c, err := d.connect(ctx, "control")
		if err != nil {
			return err
		}
		d.control = c
	}
	return run(ctx, d.control)
}

func (d *database) exec(ctx context.Context, sql string, args ...any) error {
	return d.query(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql, args...)
		return err
	})
}

// awaitUp waits until the server takes connections.
func (d *database) awaitUp(ctx context.Context) error {
	for {
		err := d.exec(ctx, "select 1")
		if err == nil {
			return nil
		}
		if sleepErr := sleep(ctx, 50*time.Millisecond); sleepErr != nil {
			return fmt.Errorf("PostgreSQL does not come back: %w", err)
		}
	}
}

// postmaster is the process id of the server, 0 if it does not run.
func (d *database) postmaster() int {
	content, _ := os.ReadFile(filepath.Join(d.data, "postmaster.pid"))
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || syscall.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

// processes are the server's children, by what they are.
func (d *database) processes() map[string][]int {
	found := map[string][]int{}
	entries, _ := os.ReadDir("/proc")
	parent := d.postmaster()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || parent == 0 {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		title, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		_, what, _ := strings.Cut(strings.Trim(string(title), "\x00 "), ": ")
		if strings.HasPrefix(what, "event_piper ") {
			what = "backend"
		}
		found[strings.TrimSpace(what)] = append(found[strings.TrimSpace(what)], pid)
	}
	return found
}
