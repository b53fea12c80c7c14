//go:build unix

package service

import (
	"log/slog"
	"syscall"

	"github.com/event-piper/event-piper/core"
)

// spareFiles is what the process needs besides a file for each session: database, listener, log.
const spareFiles = 64

// checkOpenFiles says at the start, rather than under load, that there may be fewer sessions than configured.
func checkOpenFiles(l core.Limits, log *slog.Logger) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if need := l.Sessions + l.Pagers + spareFiles; limit.Cur < uint64(need) { //nolint:gosec // positive by its settings
		log.Warn("the limit on open files is too low for MAX_SESSIONS", "limit", limit.Cur, "needed", need)
	}
	return nil
}
