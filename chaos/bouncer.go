package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
)

// newBouncer is PgBouncer in transaction mode before the database, nil where it is not installed.
func newBouncer(dir string, d *database) (*program, error) {
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		return nil, nil //nolint:nilnil // as the comment says
	}
	p, err := newProgram(dir, "pgbouncer", path)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(p.address)
	home := filepath.Join(dir, "pgbouncer")
	if err := os.MkdirAll(home, 0o755); err != nil { //nolint:gosec // it drops its privileges
		return nil, err
	}
	config := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = trust
auth_file = %[3]s/users
pool_mode = transaction
default_pool_size = 8
max_client_conn = 200
server_connect_timeout = 5
server_login_retry = 0.2
ignore_startup_parameters = extra_float_digits,application_name
`, d.port, port, home)
	for name, content := range map[string]string{"config": config, "users": `"event_piper" "event_piper"` + "\n"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o644); err != nil { //nolint:gosec // no secret
			return nil, err
		}
	}
	p.args = []string{"-q", filepath.Join(home, "config")}
	if os.Geteuid() == 0 {
		who, err := user.Lookup("postgres")
		if err != nil {
			return nil, nil //nolint:nilnil // nobody to run it as
		}
		uid, _ := strconv.Atoi(who.Uid)
		gid, _ := strconv.Atoi(who.Gid)
		p.uid, p.gid = uid, gid
	}
	return p, nil
}
