package web

import (
	"log/slog"
	"os"
	"strings"
	"time"
)

// Logger returns a log of the format ("text", "json", or "auto": text on a terminal, json elsewhere)
// and the level (debug, info, warn, error) that LOG_FORMAT and LOG_LEVEL take. In json a duration is a
// number of seconds. Lines that repeat too fast are left out, and counted.
func Logger(format, level string, w *os.File) *slog.Logger {
	var options slog.HandlerOptions
	var least slog.Level
	if least.UnmarshalText([]byte(level)) == nil {
		options.Level = least
	}
	if format == "text" || format == "auto" && IsTerminal(w) {
		return slog.New(limitLines(slog.NewTextHandler(w, &options)))
	}
	options.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.Float64Value(float64(a.Value.Duration()) / float64(time.Second))
		}
		return a
	}
	return slog.New(limitLines(slog.NewJSONHandler(w, &options)))
}

// serverLog logs what net/http has to say of connections: its texts name the client, which is no kind of line.
type serverLog struct{ log *slog.Logger }

func (s serverLog) Write(text []byte) (int, error) {
	s.log.Warn("trouble with a connection", "error", strings.TrimSpace(string(text)))
	return len(text), nil
}

// IsTerminal reports whether somebody may be looking at what is written to a file.
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
