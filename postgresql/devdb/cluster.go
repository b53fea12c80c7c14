package devdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"github.com/jackc/pgx/v5"
)

// cluster is the server as its supervisor sees it.
type cluster struct {
	job
	// dir is this run's own and goes away with it: the server's log and, when temporary, its data.
	dir string
	// data is PostgreSQL's data directory. It is below Options.DataDir, not the same, so that the
	// library, which clears the directory before it fills it, needs no rights above DataDir and never
	// has anything in hand that is not the server's.
	data string
	port int
	// pid is the postmaster's, 0 while the server is stopped.
	pid int
}

// below is the directory in Options.DataDir that holds the data.
const below = "pgdata"

// checkDataDir returns the major version of the server whose data is in dir, empty when there is none
// yet. It is an error when something else is in there.
func checkDataDir(dir string) (major string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	version, err := os.ReadFile(filepath.Join(dir, below, "PG_VERSION"))
	if errors.Is(err, os.ErrPermission) {
		return "", fmt.Errorf("data directory: %w", err)
	}
	if major = strings.TrimSpace(string(version)); major == "" {
		return "", fmt.Errorf("data directory %s is not empty and not of a development PostgreSQL: name a new or an empty one", dir)
	}
	return major, nil
}

func newCluster(j job) (*cluster, error) {
	c := &cluster{job: j}
	if j.DataDir != "" {
		// Again, now as the server's user, who may not be allowed what the program may.
		if _, err := checkDataDir(j.DataDir); errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("%w for the server's user (uid %d)", err, os.Geteuid())
		} else if err != nil {
			return nil, err
		}
	}
	var err error
	if c.dir, err = os.MkdirTemp("", "event-piper-postgresql-"); err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	// The library puts the server's log there.
	_ = os.Setenv("TMPDIR", c.dir)
	c.data = filepath.Join(c.dir, below)
	if j.DataDir != "" {
		c.data = filepath.Join(j.DataDir, below)
	}
	if c.Binaries == "" {
		c.Binaries = filepath.Join(c.dir, "postgresql")
		if !writable(c.Cache) {
			c.Cache = filepath.Join(c.dir, "cache") // downloaded again next time, then
		}
	}
	return c, nil
}

// writable reports whether a directory, which it makes if need be, takes a new file.
func writable(dir string) bool {
	if dir == "" || os.MkdirAll(dir, 0o700) != nil {
		return false
	}
	file, err := os.CreateTemp(dir, "try-")
	if err != nil {
		return false
	}
	_ = file.Close()
	return os.Remove(file.Name()) == nil
}

// create starts the server for the first time: it finds the port, and sees to the database.
func (c *cluster) create() error {
	c.port = c.Port
	var err error
	for range 5 { // between the look at a port and its use another process may take it
		if c.port == 0 || taken(c.port) {
			c.port = FreePort()
		}
		if err = c.start(); err == nil || !lostPort(err) {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := c.createDatabase(); err != nil {
		return errors.Join(err, c.stop("fast"))
	}
	return nil
}

// createDatabase is not left to the library, which creates one only together with the data directory:
// a start cut short in between would leave a directory that never works.
func (c *cluster) createDatabase() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn(c.port, "postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is left to do with it
	var exists bool
	err = conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", name).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, "create database "+name)
	}
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

func (c *cluster) start() error {
	if c.pid != 0 {
		return errors.New("already running")
	}
	before := c.postmaster()
	err := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(embeddedpostgres.PostgresVersion(c.Version)).
		BinariesPath(c.Binaries).
		CachePath(c.Cache).
		RuntimePath(filepath.Join(c.dir, "run")).
		DataPath(c.data).
		Port(uint32(c.port)).
		Username(name).Password(name).Database("postgres").
		Locale("C").Encoding("UTF8").
		StartTimeout(time.Minute).
		StartParameters(c.parameters()).
		Logger(io.Discard)).Start()
	now := c.postmaster()
	if err == nil {
		c.pid = now
		return nil
	}
	if now != 0 && now != before {
		// Ours, still starting. One that was there before is not ours to stop.
		c.pid = now
		_ = c.stop("immediate")
	}
	return err
}

func (c *cluster) parameters() map[string]string {
	parameters := map[string]string{
		"listen_addresses":        "localhost",
		"unix_socket_directories": "",
		"max_connections":         "200",
	}
	if c.DataDir == "" {
		parameters["fsync"] = "off"
		parameters["full_page_writes"] = "off"
	}
	maps.Copy(parameters, c.Parameters)
	for key, value := range parameters {
		parameters[key] = quote.Replace(value)
	}
	return parameters
}

// quote makes a value safe between the double quotes the library gives it: pg_ctl starts the server
// through a shell.
var quote = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")

// stop does not use the library: that knows but one way to stop, and calls it done while the
// postmaster is still about to exit.
func (c *cluster) stop(mode string) error {
	if c.pid == 0 || !alive(c.pid) {
		c.pid = 0
		return nil
	}
	output, err := exec.Command(filepath.Join(c.Binaries, "bin", "pg_ctl"),
		"stop", "-w", "-D", c.data, "-m", mode).CombinedOutput()
	if err != nil && alive(c.pid) {
		if mode != "immediate" {
			return c.stop("immediate")
		}
		return fmt.Errorf("stop PostgreSQL: %s", strings.TrimSpace(string(output)))
	}
	awaitExit(c.pid)
	c.pid = 0
	return nil
}

// remove deletes what was temporary.
func (c *cluster) remove() { _ = os.RemoveAll(c.dir) }

// postmaster is the process id in the data directory's lock file, 0 when there is none.
func (c *cluster) postmaster() int {
	content, _ := os.ReadFile(filepath.Join(c.data, "postmaster.pid"))
	first, _, _ := strings.Cut(string(content), "\n")
	pid, _ := strconv.Atoi(first)
	return pid
}

// FreePort returns a port of localhost for a server that will be started there again. It looks below the ports that systems
// hand out to clients: a client that keeps trying to connect while the server is away could be given the server's own port,
// and hold it.
func FreePort() int {
	for {
		if port := 15432 + rand.IntN(32000-15432); !taken(port) {
			return port
		}
	}
}

// taken reports whether somebody listens on one of localhost's addresses: PostgreSQL is content with
// the other, and half of the clients would reach a stranger.
func taken(port int) bool {
	for _, host := range []string{"127.0.0.1", "::1"} {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			_ = listener.Close()
		} else if !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EAFNOSUPPORT) {
			return true
		}
	}
	return false
}

func lostPort(err error) bool {
	return strings.Contains(err.Error(), "could not create any TCP/IP sockets") ||
		strings.Contains(err.Error(), "process already listening on port")
}

// oneLine finds what matters in an error of the library, which carries the whole log: the last, and
// worst, complaint of PostgreSQL or one of its tools.
func oneLine(err error) string {
	text := strings.TrimSpace(err.Error())
	if strings.Contains(text, "unable to connect to https://") {
		return text + ", and no PostgreSQL is installed: install one, or set DATABASE_URL, or let this machine reach that host"
	}
	for _, mark := range []string{"PANIC:", "FATAL:", "error:"} {
		if i := strings.LastIndex(text, mark); i >= 0 {
			complaint, _, _ := strings.Cut(text[i+len(mark):], "\n")
			return mark + " " + strings.TrimSpace(complaint)
		}
	}
	first, _, _ := strings.Cut(text, "\n")
	return first
}
