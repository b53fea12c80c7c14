//go:build !windows

package devdb

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// prepare makes cmd this program once more, in a process group of its own, so that Ctrl-C in a
// terminal does not take the database away before the program is done with it. PostgreSQL refuses to
// run as root: then cmd becomes somebody else, who is given the data directory and a cache.
func prepare(cmd *exec.Cmd, j *job) error {
	program, err := self()
	if err != nil {
		return fmt.Errorf("find own executable: %w", err)
	}
	cmd.Path = program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		return dropPrivileges(cmd, j)
	}
	if j.DataDir != "" {
		if err := os.MkdirAll(j.DataDir, 0o700); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	if cache, err := os.UserCacheDir(); err == nil {
		j.Cache = filepath.Join(cache, "event-piper")
	}
	return nil
}

func dropPrivileges(cmd *exec.Cmd, j *job) error {
	uid, gid, err := unprivileged(j.DataDir)
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if j.DataDir != "" {
		if err := give(j.DataDir, uid, gid); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	if j.Binaries == "" {
		j.Cache = "/var/cache/event-piper"
		if err := give(j.Cache, uid, gid); err != nil {
			return fmt.Errorf("cache for PostgreSQL: %w", err)
		}
	}
	// What root's variables name may be closed to others.
	var env []string
	for _, variable := range cmd.Env {
		if !strings.HasPrefix(variable, "HOME=") && !strings.HasPrefix(variable, "TMPDIR=") && !strings.HasPrefix(variable, "XDG_") {
			env = append(env, variable)
		}
	}
	cmd.Env = append(env, "HOME=/tmp", "TMPDIR=/tmp")
	return nil
}

// unprivileged is who runs the server in place of root: the owner of the data, or else the user that
// packages make for PostgreSQL, or else nobody.
func unprivileged(dataDir string) (uid, gid int, err error) {
	if info, err := os.Stat(filepath.Join(dataDir, below)); err == nil && dataDir != "" {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid != 0 {
			return int(owner.Uid), int(owner.Gid), nil
		}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return 0, 0, fmt.Errorf("PostgreSQL does not run as root, and there is no other user: %w", err)
		}
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

// give makes dir if need be and, unless it has content already, hands it over.
func give(dir string, uid, gid int) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	return os.Chown(dir, uid, gid)
}

// alive reports whether a process runs. One that has ended and was left to us is reaped: pg_ctl takes a zombie for
// a running server.
func alive(pid int) bool {
	if reaped, _ := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); reaped == pid {
		return false
	}
	return syscall.Kill(pid, 0) != syscall.ESRCH
}

// awaitExit waits for the end of a postmaster that has given up its lock file as almost the last thing
// it did. The bound is for a process that has ended but that nobody reaps.
func awaitExit(pid int) {
	if _, err := syscall.Wait4(pid, nil, 0, nil); err == nil {
		return
	}
	for deadline := time.Now().Add(5 * time.Second); alive(pid) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}
