//go:build !unix

package service

import (
	"log/slog"

	"github.com/event-piper/event-piper/core"
)

func checkOpenFiles(core.Limits, *slog.Logger) error { return nil }
