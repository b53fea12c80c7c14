package web

import (
	"log/slog"
	"os"
	"time"
)

// Logger returns a log of the format ("text", "json", or "auto": text on a terminal, json elsewhere)
// and the level (debug, info, warn, error) that LOG_FORMAT and LOG_LEVEL take. In json a duration is a
// number of seconds.
func Logger(format, level string, w *os.File) *slog.Logger {
	var options slog.HandlerOptions
	var least slog.Level
	if least.UnmarshalText([]byte(level)) == nil {
		options.Level = least
	}
	if format == "text" || format == "auto" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, &options))
	}
	options.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.Float64Value(float64(a.Value.Duration()) / float64(time.Second))
		}
		return a
	}
	return slog.New(slog.NewJSONHandler(w, &options))
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
